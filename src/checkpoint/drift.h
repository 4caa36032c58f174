/* drift.h: what the files of src/checkpoint share. Not for other modules.
 *
 *   layout   the sections that a state has, and where they lie: computed from the state alone, by the writer to write
 *            and by the reader to compare with what the file says. A file whose sections differ from its own metadata's
 *            layout is refused
 *   used     bytes of a section that mean something; the rest, up to `bytes`, is zero padding
 *   source   where a reader's bytes come from: a file, or memory (fuzzing)
 *
 * text.c    numbers, hex, names         layout.c  rules of a state, its sections      metadata.c  state <-> strings of
 *           __metadata__
 * header.c  header text and its hash    write.c   the writer                          read.c      opening, views
 * verify.c  hashes of the sections      fits.c    session against model             blob.c  a state as one blob
 */
#ifndef DW_CHECKPOINT_DRIFT_H
#define DW_CHECKPOINT_DRIFT_H

#include <jansson.h>
#include <stdatomic.h>

#include "checkpoint/checkpoint.h"

/* Token logs and counts lie in the file as this machine has them in memory, so that they can be mapped. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               ".drift files are little-endian and are mapped, not converted");

enum { DW_DRIFT_LENGTH_BYTES = 8 }; /* of the length in front of the header */

/* Every header of every version begins with this, then the 64 digits of hash.header, so that the hash can be checked
 * before anything of the text is trusted to a parser, and so that a newer version is told from a damaged file. */
#define DW_DRIFT_HEADER_BEGIN "{\"__metadata__\":{\"hash.header\":\""
enum { DW_DRIFT_HEADER_BEGIN_BYTES = sizeof DW_DRIFT_HEADER_BEGIN - 1, DW_DRIFT_HASH_DIGITS = 2 * DW_HASH_BYTES };

/* --- layout -------------------------------------------------------------------------------------------------- */

typedef enum dw_drift_kind {
    DW_DRIFT_MEMORY,
    DW_DRIFT_TABLE,
    DW_DRIFT_TOKENS,
    DW_DRIFT_LOGITS,
    DW_DRIFT_K,
    DW_DRIFT_V,
    DW_DRIFT_MAILBOX,
    DW_DRIFT_ACTOR,
    DW_DRIFT_PROGRAM
} dw_drift_kind;

/* What section i is. */
typedef struct dw_drift_part { dw_drift_kind kind; uint32_t table, session, layer; } dw_drift_part;

typedef struct dw_drift_layout {
    dw_checkpoint_section *sections; /* [n], in file order; offsets count from the file's first byte */
    dw_drift_part *parts;            /* [n] */
    size_t n;
    uint64_t data_offset;            /* of the first section: length prefix and header */
    uint64_t data_bytes;             /* all sections */
} dw_drift_layout;

/* The rules that a state must keep, on whichever side it comes from: counts, limits, names, handles, geometry. `status`
 * is what a broken rule means: DW_E_INVALID from a caller, DW_E_CORRUPT from a file. What is too large is DW_E_LIMIT on
 * both sides. */
dw_status dw_drift_check_state(const dw_checkpoint_state *state, dw_status status, dw_error *err) DW_MUST_USE;
/* How many sections a checked state has. */
size_t dw_drift_count_sections(const dw_checkpoint_state *state);
/* Sections of a checked state, with offsets from `data_offset`. Hashes are zero. */
dw_status dw_drift_layout_init(dw_drift_layout *layout, const dw_checkpoint_state *state, dw_error *err) DW_MUST_USE;
void dw_drift_layout_place(dw_drift_layout *layout, uint64_t data_offset);
void dw_drift_layout_deinit(dw_drift_layout *layout);
/* Index of layer 0 K of a session; layer l's K is 2 * l further, its V one behind that. */
size_t dw_drift_first_kv(const dw_checkpoint_state *state, size_t session);
uint64_t dw_drift_row_bytes(const dw_checkpoint_session *session);
/* What each version brought (docs/drift-format.md). Before DW_DRIFT_VERSION_WHOLE a file had the lowest version that
 * could say its state. */
enum { DW_DRIFT_VERSION_F16 = 1, DW_DRIFT_VERSION_KV_TYPES = 2, DW_DRIFT_VERSION_WHOLE = 3 };

/* --- metadata ------------------------------------------------------------------------------------------------ */

/* Adds everything but hashes to `metadata`. */
dw_status dw_drift_metadata_write(json_t *metadata, const dw_checkpoint_state *state, dw_error *err) DW_MUST_USE;

/* A state read from a file and the memory it points into. */
typedef struct dw_drift_state {
    dw_checkpoint_state state;
    dw_checkpoint_session *sessions;
    dw_value *globals;
    dw_table_view *tables;
} dw_drift_state;

/* Takes every entry but the tensors' hashes out of `metadata` (what is left over is unknown) and checks them. Pointers
 * to sections stay NULL. */
dw_status dw_drift_metadata_read(json_t *metadata, dw_drift_state *out, dw_error *err) DW_MUST_USE;
void dw_drift_state_deinit(dw_drift_state *state);

/* Takes `key` out of `object`: DW_E_FORMAT unless it is there and is the lower-case hexadecimal text of a hash. */
dw_status dw_drift_take_hash(json_t *object, const char *key, dw_hash *out, dw_error *err) DW_MUST_USE;
/* --- small texts and bytes (text.c) ------------------------------------------------------------------------------- */

/* Decimal without sign, blanks or leading zeros, at most `max`; else DW_E_FORMAT. */
dw_status dw_drift_parse_decimal(const char *text, uint64_t max, uint64_t *out) DW_MUST_USE;
/* Exactly 2 * size lower-case digits: the one way to write a value, since hash.header does not cover its own digits. */
dw_status dw_drift_parse_hex(const char *text, size_t length, uint8_t *out, size_t size) DW_MUST_USE;
void dw_drift_format_hex(const uint8_t *bytes, size_t size, char *out); /* 2 * size digits, no terminator */
/* Valid UTF-8 without control characters. */
bool dw_drift_is_clean(const char *text);
/* Copies at most size - 1 bytes; what would make the text unclean becomes '?', a character that was cut in two
 * included. */
void dw_drift_clean(const char *text, char *out, size_t size);
bool dw_drift_is_bad_logit(float logit); /* NaN or +inf; -inf means never */
/* Text from a file made fit for an error message: what is not printable ASCII becomes '?', and it is cut. */
enum { DW_DRIFT_PRINTABLE_BYTES = 49 };
const char *dw_drift_printable(const char *text, char out[DW_DRIFT_PRINTABLE_BYTES]);

/* --- header -------------------------------------------------------------------------------------------------- */

/* The whole header, length prefix and padding included, with the hashes of layout->sections and with hash.header, which
 * is given in *identity. Its length does not depend on the hashes. Free with free(). */
dw_status dw_drift_header_write(const dw_checkpoint_state *state, const dw_drift_layout *layout, uint8_t **out,
                                uint64_t *out_size, dw_hash *identity, dw_error *err) DW_MUST_USE;
/* Bytes of the header, length prefix included, from its first eight bytes and the file's size; refuses what cannot be
 * one. */
dw_status dw_drift_header_size(const uint8_t prefix[DW_DRIFT_LENGTH_BYTES], uint64_t file_bytes, uint64_t *out,
                               dw_error *err) DW_MUST_USE;
/* Checks begin, padding and hash.header of a whole header (which is changed: the digits become zeros), then parses
 * it. */
dw_status dw_drift_header_read(uint8_t *header, uint64_t size, json_t **out, dw_hash *identity,
                               dw_error *err) DW_MUST_USE;

/* Whether a parser that gave nothing wanted for memory. `detail` must have been zero before. */
bool dw_drift_json_starved(const json_error_t *detail);

/* --- an open checkpoint --------------------------------------------------------------------------------------- */

typedef struct dw_drift_source {
    dw_backing *backing;   /* NULL: memory */
    const uint8_t *bytes;  /* the whole file: mapped, or borrowed from the caller */
    uint64_t size;
} dw_drift_source;

struct dw_checkpoint {
    dw_drift_source source;
    dw_drift_state content;
    dw_drift_layout layout;
    dw_hash identity;
    atomic_bool verified;
};

/* Copies [offset, +size) of the file. From a file by reading, never through the map: a failing disk is then a status,
 * not a signal. */
dw_status dw_drift_read(const dw_drift_source *source, uint64_t offset, void *out, size_t size,
                        dw_error *err) DW_MUST_USE;
/* As dw_checkpoint_open, over bytes that must outlive the checkpoint and be aligned to 4; it has no backing. For tests
 * and fuzzing. */
dw_status dw_checkpoint_open_bytes(const void *bytes, uint64_t size, dw_checkpoint **out, dw_error *err) DW_MUST_USE;

#endif
