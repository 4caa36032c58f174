/* checkpoint.h: one actor at a turn boundary, as a file: the `.drift` format, version 3. Versions 1 and 2 are read.
 *
 * docs/drift-format.md is the whole specification. In short: a .drift is a valid safetensors file: 8 bytes
 * little-endian header length, a JSON header padded with spaces so that data starts on a multiple of
 * DW_DRIFT_PAGE_BYTES, then the sections (safetensors: tensors) in this order, each a multiple of that page, no holes.
 * What is shorter is padded with zeros; the metadata holds the true counts. Sections may be empty.
 *
 *   section                    dtype  shape                              what
 *   memory.0                   U8     [bytes]                            guest memory
 *   table.<i>                  I32    [elements padded]                  functions in table i of those that the code
 *                              changes
 *   per session <s> (its handle, decimal), in the order of the metadata's "sessions":
 *     tokens.<s>               I32    [n padded]                         the session's token log
 *     logits.<s>               F32    [n padded]                         of the last row, where the session holds them
 *     kv.<s>.k.<l>, .v.<l>     F16    [rows padded, n_heads_kv, head_dim] rows of layer l: K then V of layer 0, of
 *                              layer 1, ...; BF16 likewise;
 *                              U8     [rows padded, row bytes]           of Q8_0, for which safetensors has no dtype
 *   mailbox                    U8     [bytes padded]                     messages not yet handled (written by
 *                              src/actor)
 *   actor                      U8     [bytes padded]                     the rest of the actor's state (written by
 *                              src/actor)
 *   program                    U8     [bytes padded]                     the program's source module, or nothing
 *
 * `__metadata__` (all strings) begins with "hash.header": SHA-256 of the length prefix and the whole header with these
 * 64 digits replaced by '0'. It is the checkpoint's identity, since it covers everything else. Then "format" = "drift",
 * "version" = "3", "base" (reserved: "" of a whole checkpoint), "program", "abi", "actor.name", "turn", "parent"
 * (identity of the checkpoint this one came from, or ""), "created_ns", "memory.bytes", "mailbox.bytes", "actor.bytes",
 * "program.bytes", "globals", "tables" (only when there are any), "wasi", "sessions", per session "session.<s>" (JSON
 * text: model fingerprint, profile, counts, geometry, KV type, sampler), and per section "hash.<section>" = SHA-256 of
 * its bytes, padding included.
 *
 * Rules
 * 1. Every byte of the file is covered by hash.header or by a section's hash. Opening checks hash.header, the structure
 *    and the counts; dw_checkpoint_verify checks the sections' hashes, that padding is zero and that no token or
 *    function is negative. Nothing of a checkpoint may reach a guest or a model before both. Hashes show damage, not
 *    who wrote the file: contents stay untrusted (I6).
 * 2. Writing is atomic: a temporary file, sync, replace. A failed write leaves what was there.
 * 3. The reader allocates in proportion to the header (bounded), never to what the header claims (I6). Every refusal
 *    names the section ("header" is one).
 * 4. A file of a newer version is refused with DW_E_VERSION; unknown metadata keys and sections are refused too: they
 *    would mean something.
 * 5. Runs of zero bytes are not written: the file is sparse where the memory is.
 * 6. Thaw maps the file's pages privately in place: an open checkpoint's file must not be changed by anyone; it is made
 *    with mode 0600.
 * 7. The same state gives the same bytes.
 * Threads: an open checkpoint is immutable; any number of threads may read it. dw_checkpoint_verify is called by one at
 * a time.
 */
#ifndef DW_CHECKPOINT_CHECKPOINT_H
#define DW_CHECKPOINT_CHECKPOINT_H

#include "base/base.h"
#include "model/model.h"
#include "region/region.h"
#include "wasm/wasm.h"

enum { DW_DRIFT_VERSION = 3 }; /* the newest, which is written */

typedef struct dw_checkpoint_session {
    dw_handle handle;              /* under which the guest knows the session */
    dw_model_fingerprint model;
    /* To write: DW_FINGERPRINT_TENSORS; when read: as the file's version has it. */
    dw_fingerprint_kind fingerprint_kind;
    char model_name[128];          /* for people: what is not plain UTF-8 text is written as '?' */
    char profile[DW_PROFILE_BYTES];
    bool fast;
    /* Its rows could be given to sessions of any owner (session.h). false in files before version 3. */
    bool granted;
    uint32_t n_tokens, n_rows, n_layers, n_heads_kv, head_dim;
    /* Leading rows that were evaluated in prefill chunks alone, at most n_rows. 0 in files before version 3. */
    uint32_t n_prefilled;
    /* Of the last row, or 0: then the row is evaluated again before a draw. Not 0 only where n_rows == n_tokens. */
    uint32_t n_logits;
    dw_kv_type kv_type;
    dw_sampler_state sampler;
    const int32_t *tokens;         /* [n_tokens]; to write: borrowed; when read: in the mapped file */
    const float *logits;           /* [n_logits] likewise; no NaN, no +inf */
} dw_checkpoint_session;

typedef struct dw_checkpoint_state {
    uint32_t version;              /* of the format, as the file says; what is written is always DW_DRIFT_VERSION */
    dw_hash program;               /* SHA-256 of its source */
    const void *program_source; uint64_t program_bytes; /* 0: the file does not hold it */
    uint32_t abi_version;
    char actor_name[DW_ACTOR_NAME_BYTES_MAX + 1]; /* not empty, UTF-8 without control characters */
    uint64_t turn;                 /* turns committed so far */
    bool has_parent;
    dw_hash parent;
    uint64_t created_ns;           /* realtime */
    const void *memory; uint64_t memory_bytes;
    const dw_value *globals; size_t n_globals;
    /* Elements: function indices, -1 = null; when read: in the mapped file. */
    const dw_table_view *tables; size_t n_tables;
    dw_wasi_state wasi;
    const dw_checkpoint_session *sessions; size_t n_sessions;
    const void *mailbox; uint64_t mailbox_bytes;
    const void *actor; uint64_t actor_bytes;
} dw_checkpoint_state;

/* --- writing ------------------------------------------------------------------------------------------------- */

/* Gives the rows of session index `session`: [n_rows, n_heads_kv, head_dim] of its KV type, valid until the next
 * call. */
typedef dw_status (*dw_checkpoint_rows)(void *context, size_t session, uint32_t layer, int which, const void **out,
                                        uint64_t *bytes);

typedef struct dw_checkpoint_report {
    dw_hash identity;
    uint64_t file_bytes, occupied_bytes, kv_bytes, program_bytes;
    uint64_t write_ns, hash_ns, sync_ns;
} dw_checkpoint_report;

/* Writes `path`, new or in place of what is there. `rows` may be NULL when no session has rows; it is called once for
 * each layer's K and V of a session with rows, in file order, and must give exactly n_rows rows. `report` may be NULL.
 * DW_E_INVALID and DW_E_LIMIT name what is wrong with the state. Blocks for the hashing (2 GB/s), the writing and the
 * sync. */
dw_status dw_checkpoint_write(const char *path, const dw_checkpoint_state *state, dw_checkpoint_rows rows,
                              void *context, dw_checkpoint_report *report, dw_error *err) DW_MUST_USE;

/* --- reading ------------------------------------------------------------------------------------------------- */

typedef struct dw_checkpoint dw_checkpoint;

/* Checks the header and maps the file; reads nothing else. The caller closes *out. Damage: DW_E_HASH, DW_E_TRUNCATED,
 * DW_E_CORRUPT, DW_E_FORMAT; DW_E_VERSION for a newer version; DW_E_LIMIT for what is larger than this build takes. */
dw_status dw_checkpoint_open(const char *path, dw_checkpoint **out, dw_error *err) DW_MUST_USE;
void dw_checkpoint_close(dw_checkpoint *checkpoint);
/* Reads and hashes every section (2 GB/s and core; uses up to `threads`, the caller's included). Refuses with DW_E_HASH
 * or DW_E_CORRUPT, and names the first bad section of the file whatever the number of threads. */
dw_status dw_checkpoint_verify(dw_checkpoint *checkpoint, unsigned threads, dw_error *err) DW_MUST_USE;
bool dw_checkpoint_is_verified(const dw_checkpoint *checkpoint);

/* What is inside; pointers lead into the mapped file and live as long as the checkpoint. */
const dw_checkpoint_state *dw_checkpoint_view(const dw_checkpoint *checkpoint);
const dw_hash *dw_checkpoint_identity(const dw_checkpoint *checkpoint);
uint32_t dw_checkpoint_version(const dw_checkpoint *checkpoint); /* of the format, as the file says */
uint64_t dw_checkpoint_file_bytes(const dw_checkpoint *checkpoint);
/* The file as a backing, to map from (borrowed: retain it to keep it). */
dw_backing *dw_checkpoint_backing(const dw_checkpoint *checkpoint);
uint64_t dw_checkpoint_memory_offset(const dw_checkpoint *checkpoint);
/* Where a session's rows begin in the file, on pages of DW_DRIFT_PAGE_BYTES: out[n_layers]. DW_E_RANGE for another
 * session or number of layers. */
dw_status dw_checkpoint_kv_sources(const dw_checkpoint *checkpoint, size_t session, dw_kv_source *out,
                                   size_t n_layers) DW_MUST_USE;

/* Sections for `inspect`, in file order; borrowed: name, dtype, shape, place in the file, bytes with and without
 * padding, hash. */
typedef struct dw_checkpoint_section {
    char name[64]; char dtype[8]; uint64_t shape[4]; uint32_t n_dims;
    uint64_t offset, bytes, used_bytes; dw_hash hash;
} dw_checkpoint_section;
size_t dw_checkpoint_sections(const dw_checkpoint *checkpoint, const dw_checkpoint_section **out);

/* --- states alone -------------------------------------------------------------------------------------------- */

/* A state as one blob, for who keeps the bulk elsewhere: u32 version of the blob, u32 bytes of the metadata, the
 * metadata as a .drift of DW_DRIFT_VERSION has it (without hashes), the elements of all tables, the mailbox, the actor.
 * Memory, rows, tokens, logits and the program's source are counted and not held: whoever keeps the blob keeps them
 * beside it, and checks that what it reads is what it wrote. */
typedef struct dw_blob dw_blob;
/* *out is the caller's to free. DW_E_INVALID and DW_E_LIMIT as for dw_checkpoint_write. */
dw_status dw_blob_encode(const dw_checkpoint_state *state, uint8_t **out, size_t *size, dw_error *err) DW_MUST_USE;
/* Untrusted. *out holds copies: `data` may go. */
dw_status dw_blob_decode(const void *data, size_t size, dw_blob **out, dw_error *err) DW_MUST_USE;
void dw_blob_free(dw_blob *state);                                 /* NULL is a no-op */
const dw_checkpoint_state *dw_blob_view(const dw_blob *state);     /* borrowed; what it does not hold is NULL */
/* Tokens and logits of a session, as many as it says, which stay as long as the state; NULL: none. */
void dw_blob_set_tokens(dw_blob *state, size_t session, const int32_t *tokens);
void dw_blob_set_logits(dw_blob *state, size_t session, const float *logits);

/* Why a session of a verified checkpoint does or does not fit a model: DW_OK; DW_E_MISMATCH with the reason (tokenizer,
 * weights, hyperparameters, geometry, KV type, context length, a token outside the vocabulary, another number of
 * logits). *exact: the profile is the same too and the session is not a fast one, so that the continuation is bit for
 * bit (I4). */
dw_status dw_checkpoint_session_fits(const dw_checkpoint_session *session, dw_model *model, bool *exact,
                                     dw_error *err) DW_MUST_USE;

#endif
