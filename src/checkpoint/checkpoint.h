/* checkpoint.h: one actor at a turn boundary, as a file: the `.drift` format, version 1.
 *
 * A .drift is a valid safetensors file (huggingface.co/docs/safetensors): 8 bytes little-endian header length, a JSON header padded with
 * spaces so that data starts on a multiple of DW_DRIFT_PAGE_BYTES, then the tensors in header order, each a multiple of that page, no holes.
 * What is shorter is padded with zeros; metadata holds the true counts.
 *
 *   tensor                     dtype  shape                              what
 *   memory.0                   U8     [bytes]                            guest memory
 *   kv.<s>.k.<l>, kv.<s>.v.<l> F16    [rows padded, n_heads_kv, head_dim] rows of session s (its handle), layer l
 *   tokens.<s>                 I32    [n padded]                         the session's token log
 *   mailbox                    U8     [bytes padded]                     messages not yet handled (written by src/actor)
 *   actor                      U8     [bytes padded]                     the rest of the actor's state (written by src/actor)
 *
 * `__metadata__` (all strings): "format" = "drift", "version" = "1", "hash.<tensor>" = SHA-256 of the tensor's bytes (padding included),
 * "hash.header" = SHA-256 of the length prefix and the whole header with these 64 digits replaced by '0': the checkpoint's identity,
 * since it covers everything else; "program", "abi", "actor.name", "turn", "parent" (identity of the checkpoint this one came from, or ""),
 * "created_ns", "memory.bytes", "globals", "wasi", and per session "session.<s>": JSON text (model fingerprint, profile, counts, geometry, sampler).
 *
 * Rules
 * 1. Every byte of the file is covered by hash.header or by a tensor's hash. Opening checks the structure and hash.header;
 *    dw_checkpoint_verify checks the tensors. Nothing of a checkpoint may reach a guest or a model before both.
 * 2. Writing is atomic: a temporary file, sync, replace. A failed write leaves what was there.
 * 3. The reader allocates in proportion to the header (bounded), never to what the header claims (I6). Names the section in every refusal.
 * 4. A file of a newer version is refused with DW_E_VERSION; unknown metadata keys and tensors are refused too: they would mean something.
 * 5. Runs of zero bytes are not written: the file is sparse where the memory is.
 * 6. Thaw maps the file's pages privately in place: an open checkpoint's file must not be changed by anyone; keep it private (mode 0600).
 * Threads: an open checkpoint is immutable.
 */
#ifndef DW_CHECKPOINT_CHECKPOINT_H
#define DW_CHECKPOINT_CHECKPOINT_H

#include "base/base.h"
#include "model/model.h"
#include "region/region.h"
#include "wasm/wasm.h"

enum { DW_DRIFT_VERSION = 1 };

typedef struct dw_checkpoint_session {
    dw_handle handle;              /* under which the guest knows the session */
    dw_model_fingerprint model;
    char model_name[128];          /* for people */
    char profile[DW_PROFILE_BYTES];
    bool fast;
    uint32_t n_tokens, n_rows, n_layers, n_heads_kv, head_dim;
    dw_sampler_state sampler;
    const int32_t *tokens;         /* [n_tokens]; to write: borrowed; when read: in the mapped file */
} dw_checkpoint_session;

typedef struct dw_checkpoint_state {
    dw_hash program;
    uint32_t abi_version;
    char actor_name[DW_ACTOR_NAME_BYTES_MAX + 1];
    uint64_t turn;                 /* turns committed so far */
    bool has_parent;
    dw_hash parent;
    uint64_t created_ns;           /* realtime */
    const void *memory; uint64_t memory_bytes;
    const dw_value *globals; size_t n_globals;
    dw_wasi_state wasi;
    const dw_checkpoint_session *sessions; size_t n_sessions;
    const void *mailbox; uint64_t mailbox_bytes;
    const void *actor; uint64_t actor_bytes;
} dw_checkpoint_state;

/* --- writing ------------------------------------------------------------------------------------------------- */

/* Gives the rows of session index `session`: [n_rows, n_heads_kv, head_dim] F16, valid until the next call. */
typedef dw_status (*dw_checkpoint_rows)(void *context, size_t session, uint32_t layer, int which, const void **out, uint64_t *bytes);

typedef struct dw_checkpoint_report {
    dw_hash identity;
    uint64_t file_bytes, occupied_bytes, kv_bytes;
    uint64_t write_ns, hash_ns, sync_ns;
} dw_checkpoint_report;

dw_status dw_checkpoint_write(const char *path, const dw_checkpoint_state *state, dw_checkpoint_rows rows, void *context,
                              dw_checkpoint_report *report, dw_error *err) DW_MUST_USE;

/* --- reading ------------------------------------------------------------------------------------------------- */

typedef struct dw_checkpoint dw_checkpoint;

dw_status dw_checkpoint_open(const char *path, dw_checkpoint **out, dw_error *err) DW_MUST_USE;
void dw_checkpoint_close(dw_checkpoint *checkpoint);
/* Hashes every tensor (2 GB/s and core; uses up to `threads`). DW_E_HASH names the first section that differs. */
dw_status dw_checkpoint_verify(dw_checkpoint *checkpoint, unsigned threads, dw_error *err) DW_MUST_USE;
bool dw_checkpoint_is_verified(const dw_checkpoint *checkpoint);

/* What is inside; pointers lead into the mapped file and live as long as the checkpoint. */
const dw_checkpoint_state *dw_checkpoint_view(const dw_checkpoint *checkpoint);
const dw_hash *dw_checkpoint_identity(const dw_checkpoint *checkpoint);
uint64_t dw_checkpoint_file_bytes(const dw_checkpoint *checkpoint);
/* The file as a backing, to map from (borrowed: retain it to keep it). */
dw_backing *dw_checkpoint_backing(const dw_checkpoint *checkpoint);
uint64_t dw_checkpoint_memory_offset(const dw_checkpoint *checkpoint);
/* Where a session's rows begin in the file: out[n_layers]. */
dw_status dw_checkpoint_kv_sources(const dw_checkpoint *checkpoint, size_t session, dw_kv_source *out, size_t n_layers) DW_MUST_USE;

/* Sections for `inspect`, in file order: name, dtype, shape, place in the file, bytes with and without padding, hash. */
typedef struct dw_checkpoint_section {
    char name[64]; char dtype[8]; uint64_t shape[4]; uint32_t n_dims;
    uint64_t offset, bytes, used_bytes; dw_hash hash;
} dw_checkpoint_section;
size_t dw_checkpoint_sections(const dw_checkpoint *checkpoint, const dw_checkpoint_section **out);

/* Why a checkpoint's session does or does not fit a model: DW_OK; DW_E_MISMATCH with the reason (weights, tokenizer, hyperparameters, geometry).
 * *exact: the profile is the same too, so that the continuation is bit for bit. */
dw_status dw_checkpoint_session_fits(const dw_checkpoint_session *session, dw_model *model, bool *exact, dw_error *err) DW_MUST_USE;

#endif
