/* guest.h: the guest ABI of Driftwood, version 1. The single source for the host and for every SDK.
 *
 * A program is a core WebAssembly module (32-bit memory). It exports `memory`, optionally `_initialize` (WASI reactor),
 * and
 *
 *     driftwood_receive() -> i32        one call = one turn: handle the message that is waiting. 0 = done; negative =
 *                                       give up this turn: nothing of it is kept, the sender gets the status.
 *
 * It keeps its state simply in its memory; between turns the runtime may freeze, fork, move or rewind it. It imports
 * WASI preview 1 and one function from module `driftwood`:
 *
 *     enter(requests: i32, n_requests: i32, completions: i32, capacity: i32, wait: i32, deadline_ns: i64) -> i32
 *
 * in the manner of kevent(2): submits `n_requests` records (dw_request, 64 bytes each, 8-byte aligned) and returns when
 * at least `wait` of the outstanding ones are complete, or at the deadline (nanoseconds from now; 0 with wait = 0
 * polls; negative = none). At most `capacity` completions (dw_completion, 32 bytes, 8-byte aligned) are written, oldest
 * first; the rest stays for the next call. Returns how many were written, or a negative status when the call itself is
 * refused: then no request of it was taken.
 *
 * Rules
 * 1. Little-endian, fixed sizes. Reserved fields are zero, else the request is refused (DW_E_INVALID): they will mean
 *    something.
 * 2. Every request gets exactly one completion with its user_data, whatever happens to it. A request that is wrong
 *    completes with a status.
 * 3. Requests that need no waiting complete in the same call. Those of one session that arrive in one call are done in
 *    order.
 * 4. Records and option structs are copied once and the copy is checked: changing them while a request is outstanding
 *    does nothing. Texts, tokens and names are copied too. Logits, vectors and tensors are read and written in place,
 *    by the device itself where it can: such a part of guest memory is lent (a "window"). While a request with a window
 *    is outstanding, enter does not return: if the deadline passes first the request is cancelled, and completes as
 *    such. What is lent is lent to one request: another one that reads or writes a byte of it completes with DW_E_BUSY,
 *    and one whose windows and results overlap each other with DW_E_INVALID. Requests without windows may stay
 *    outstanding while the guest runs; their small results (text, tokens, scores) are written by the enter that returns
 *    their completion.
 * 5. `wait` may exceed neither `capacity` nor the number outstanding, completions not yet delivered included
 *    (DW_E_INVALID): a guest cannot wait for ever for nothing.
 * 6. None is outstanding across turns: what is left when driftwood_receive returns is cancelled.
 * 7. Replies, emits and sends leave when the turn commits; emit also streams at once to whoever is watching, marked as
 *    not yet committed.
 * 8. A handle is an opaque nonzero u32, valid for this actor only, stable across freeze and thaw. Forged or closed ones
 *    give DW_E_BAD_HANDLE.
 * 9. Texts are UTF-8, cut between characters. What is not is taken as U+FFFD. A generation delivers whole characters:
 *    the beginning of one at its end (DW_GENERATE_LENGTH, DW_GENERATE_CONTEXT) is in the log, and comes with the
 *    generation that goes on there without tokens.
 * 10. Option structs begin with their own size in bytes; a smaller known size is accepted (older programs), missing
 *     fields are zero.
 *
 * Statuses are those of the host (src/base/status.h); the ones a guest meets are listed below.
 */
#ifndef DRIFTWOOD_GUEST_H
#define DRIFTWOOD_GUEST_H

#include <assert.h>
#include <stdint.h>

#define DW_ABI_VERSION 1

/* --- records ------------------------------------------------------------------------------------------------- */

typedef struct dw_request {
    uint16_t op;          /* dw_op */
    uint16_t flags;       /* DW_FLAG_* as the operation allows */
    uint32_t handle;      /* session, ... or 0 */
    uint64_t user_data;   /* comes back in the completion */
    uint32_t ptr0, len0;  /* guest pointer and length, bytes unless the operation says elements */
    uint32_t ptr1, len1;
    uint32_t ptr2, len2;
    uint64_t arg0, arg1, arg2;
} dw_request;

typedef struct dw_completion {
    uint64_t user_data;
    int32_t status;       /* 0 or negative */
    uint32_t result0;
    uint64_t result1, result2;
} dw_completion;

static_assert(sizeof(dw_request) == 64, "dw_request is 64 bytes");
static_assert(sizeof(dw_completion) == 32, "dw_completion is 32 bytes");

/* --- operations ---------------------------------------------------------------------------------------------- */

/* X(name, number, window, text): `window` = 1 when the operation lends guest memory while it is outstanding (FORWARD:
 * when logits are wanted). */
#define DW_OP_TABLE(X) \
    /* turn */ \
    X(DW_OP_MESSAGE, 1, 0, \
      "the message: copies up to len0 bytes of its body to ptr0; result0 = body bytes, result1 = turn number") \
    X(DW_OP_REPLY, 2, 0, "answers the message with ptr0[len0]; appends when called again") \
    X(DW_OP_EMIT, 3, 0, "streams ptr0[len0] (text) to whoever is watching this turn") \
    X(DW_OP_LOG, 4, 0, "writes ptr0[len0] to the log of the actor; arg0 = level 0 error .. 4 trace") \
    X(DW_OP_CANCEL, 5, 0, "cancels the outstanding requests whose user_data is arg0; result0 = how many") \
    X(DW_OP_INTERRUPTED, 6, 0, "result0 = 1 when the user asked this turn to stop") \
    X(DW_OP_SLEEP, 7, 0, "completes after arg0 nanoseconds") \
    /* session */ \
    X(DW_OP_SESSION_OPEN, 16, 0, \
      "opens a session with the model named ptr0[len0] (len0 0: the default model); arg0 = seed; flags FAST, " \
      "SHARED; result0 = handle, result1 = context tokens, result2 = vocabulary size") \
    X(DW_OP_SESSION_CLOSE, 17, 0, "closes it; the handle is dead") \
    X(DW_OP_SESSION_LENGTH, 18, 0, \
      "result0 = tokens in the log, result1 = of these with KV rows, result2 = context tokens") \
    X(DW_OP_SESSION_TOKENS, 19, 0, \
      "copies tokens arg0 .. arg0+len0-1 of the log to ptr0 (i32 elements); result0 = copied") \
    X(DW_OP_SESSION_REWIND, 20, 0, "shortens the log to arg0 tokens") \
    X(DW_OP_SESSION_FORK, 21, 0, "a second session with the same past; result0 = handle") \
    X(DW_OP_SESSION_SYNC, 22, 0, \
      "makes the log equal to ptr0[len0] (i32 elements): keeps the common prefix, the rest becomes pending; " \
      "result0 = tokens that have KV rows then (of a fast session also those it shares), result1 = pending") \
    /* forward and generate */ \
    X(DW_OP_FORWARD, 32, 1, \
      "appends the tokens ptr0[len0] (i32), evaluates everything pending (the last token once more if nothing is, " \
      "unless its logits are held), and delivers the rows asked for in ptr1[len1] (dw_row, elements); flag HOLD: " \
      "holds the last token's logits; result0 = tokens evaluated or shared, result1 = length of the log") \
    X(DW_OP_GENERATE, 33, 0, \
      "appends the tokens ptr0[len0] (i32), then makes up to n tokens as dw_generate_options at ptr1[len1] says; " \
      "text goes to ptr2[len2]; result0 = text bytes, result1 = tokens made, result2 = dw_end_reason | stop " \
      "index << 8") \
    X(DW_OP_EMBED, 34, 1, \
      "embeds texts as dw_embed_options at ptr0[len0] says: vectors to ptr1[len1] (f32 elements, 64-byte " \
      "aligned), one after the other; result0 = numbers of a vector, result1 = tokens evaluated, result2 = " \
      "longest text the model takes, in tokens. DW_E_FULL: a text is longer, of result1 tokens; DW_E_RANGE: len1 " \
      "is too small; with n_texts and len1 0 it only tells result0 and result2") \
    /* text */ \
    X(DW_OP_TOKENIZE, 48, 0, \
      "text ptr0[len0] to tokens ptr1[len1] (i32 elements) with the vocabulary of session `handle`; flags " \
      "SPECIAL, CONTROL; result0 = tokens needed; DW_E_FULL when they do not fit (nothing is written)") \
    X(DW_OP_DETOKENIZE, 49, 0, \
      "tokens ptr0[len0] (i32 elements) to text ptr1[len1]; flag CONTROL; result0 = bytes needed") \
    X(DW_OP_TOKEN_INFO, 50, 0, \
      "of token arg0: result0 = DW_TOKEN_* flags; arg0 = 0xffffffff: result1 = BOS, result2 = EOS (or -1)") \
    /* compute */ \
    X(DW_OP_COMPUTE, 64, 1, \
      "runs a small graph of tensor operations on the guest's own memory: dw_compute_options at ptr0[len0]; " \
      "result1 = compute nanoseconds, result2 = bytes that had to be copied (0: the device worked in place)")

typedef enum dw_op {
#define X(name, number, window, text) name = number,
    DW_OP_TABLE(X)
#undef X
} dw_op;

enum {
    DW_FLAG_FAST = 1,     /* SESSION_OPEN: may be batched with others; bits then depend on them */
    /* TOKENIZE: the text begins a log, so what the model wants there is added (BOS, a space). Without, it goes on in
     * one, and nothing is added. */
    DW_FLAG_SPECIAL = 2,
    /* TOKENIZE: control tokens written in the text are recognised (never for text of others); DETOKENIZE: show them. */
    DW_FLAG_CONTROL = 4,
    DW_FLAG_COPY = 8,     /* COMPUTE: take the explicit-copy path, for comparison */
    /* SESSION_OPEN: rows of a common prefix may go to, and come from, sessions of other owners that have this flag too.
     * How fast an answer comes can tell others that a prefix was evaluated here, so this is for prompts that are no
     * secret. */
    DW_FLAG_SHARED = 16,
    /* FORWARD: the session holds the logits of the last token until its log changes, as a part of the actor. A FORWARD
     * or GENERATE without tokens reads them there instead of evaluating the token once more. */
    DW_FLAG_HOLD = 32
};

/* TOKEN_INFO */
enum { DW_TOKEN_END = 1 /* ends a generation */, DW_TOKEN_CONTROL = 2 };

/* --- forward ------------------------------------------------------------------------------------------------- */

typedef struct dw_scored_token { int32_t token; float logprob; } dw_scored_token;

typedef struct dw_sampling_options {
    float temperature;   /* 0: greedy */
    float top_p;         /* 0 or 1: off */
    float min_p;         /* 0: off */
    uint32_t top_k;      /* 0: off */
} dw_sampling_options;

/* One row of results wanted: of token `index` of those given, or of the last token of the log. Pointer 0 = not
 * wanted. */
typedef struct dw_row {
    uint32_t index;              /* or DW_ROW_OF_LAST */
    uint32_t flags;              /* DW_ROW_SAMPLE */
    uint32_t logits;             /* -> f32[vocabulary size], 64-byte aligned */
    uint32_t top, n_top;         /* -> dw_scored_token[n_top], likeliest first */
    uint32_t candidates, candidate_logprobs, n_candidates; /* i32[n] -> f32[n] */
    uint32_t entropy;            /* -> f32, nats */
    uint32_t sampled;            /* -> dw_scored_token, with flag DW_ROW_SAMPLE */
    dw_sampling_options sampling;
    uint32_t reserved[2];
} dw_row;

#define DW_ROW_OF_LAST UINT32_C(0xffffffff)
enum { DW_ROW_SAMPLE = 1 };
static_assert(sizeof(dw_row) == 64, "dw_row is 64 bytes");

/* --- generate ------------------------------------------------------------------------------------------------ */

enum dw_generate_flags { DW_GENERATE_EMIT = 1 /* stream the text as DW_OP_EMIT would */, DW_GENERATE_IGNORE_END = 2 };

typedef struct dw_generate_options {
    uint32_t size;               /* sizeof(dw_generate_options) */
    uint32_t n_max;              /* tokens at most */
    uint32_t flags;
    /* -> dw_text[n_stops]: texts that end the generation, also those of control tokens; not delivered, not kept in the
     * log. */
    uint32_t stops, n_stops;
    dw_sampling_options sampling;
} dw_generate_options;

typedef struct dw_text { uint32_t ptr, len; } dw_text;

/* why a generation ended: result2 & 0xff */
enum { DW_GENERATE_END_TOKEN = 1, DW_GENERATE_STOP = 2, DW_GENERATE_LENGTH = 3, DW_GENERATE_CONTEXT = 4 };

/* --- embed --------------------------------------------------------------------------------------------------- */

typedef struct dw_embed_options {
    uint32_t size;               /* sizeof(dw_embed_options) */
    uint32_t flags;              /* DW_EMBED_NORMALIZE, DW_EMBED_TOKENS */
    uint32_t pooling;            /* DW_EMBED_MEAN, ...; 0: the model's own */
    uint32_t model, model_len;   /* -> name; 0, 0: the default model */
    uint32_t texts, n_texts;     /* -> dw_text[n_texts] */
} dw_embed_options;
enum {
    DW_EMBED_NORMALIZE = 1,      /* scale each vector to length 1: a dot product is the cosine then */
    /* The texts are tokens (i32, len counts them), with the special ones that the model wants. */
    DW_EMBED_TOKENS = 2
};
enum { DW_EMBED_MEAN = 1, DW_EMBED_CLS = 2 /* of the first token */, DW_EMBED_LAST = 3 };

/* --- compute ------------------------------------------------------------------------------------------------- */

typedef struct dw_tensor {       /* row-major: element (r, c) at ptr + (r * columns + c) * element size */
    uint32_t ptr;                /* aligned as DW_TENSOR_ALIGN */
    uint32_t type;               /* DW_TENSOR_F32, DW_TENSOR_F16 */
    uint32_t columns, rows;
} dw_tensor;
enum { DW_TENSOR_F32 = 0, DW_TENSOR_F16 = 1, DW_TENSOR_ALIGN = 256 };

typedef struct dw_node { uint32_t op, a, b, out; } dw_node; /* indices into tensors */
enum {
    DW_NODE_MUL_MAT = 1,         /* out[m, n] = b[m, k] * a[n, k] transposed (both with k columns); out F32 */
    DW_NODE_ADD = 2, DW_NODE_MUL = 3
};

typedef struct dw_compute_options {
    uint32_t size;               /* sizeof(dw_compute_options) */
    uint32_t device, device_len; /* -> name: "cpu", "vulkan"; 0, 0: the actor's device */
    uint32_t tensors, n_tensors; /* -> dw_tensor[] */
    uint32_t nodes, n_nodes;     /* -> dw_node[], run in order */
} dw_compute_options;

/* --- statuses a guest meets ------------------------------------------------------------------------------------ */
/* The host has the full table in src/base/status.h; a check keeps the two equal. */
#ifndef DW_BASE_STATUS_H
enum {
    DW_OK = 0, DW_E_INVALID = -1, DW_E_RANGE = -2, DW_E_NOT_FOUND = -3, DW_E_EXISTS = -4, DW_E_BUSY = -5,
    DW_E_LIMIT = -6, DW_E_STATE = -7, DW_E_UNSUPPORTED = -8, DW_E_DENIED = -9, DW_E_CANCELLED = -10,
    DW_E_DEADLINE = -11, DW_E_MISMATCH = -12, DW_E_VERSION = -13, DW_E_BAD_HANDLE = -14, DW_E_TRAP = -15,
    DW_E_FULL = -16, DW_E_EXIT = -17, DW_E_NO_MEMORY = -100, DW_E_IO = -101, DW_E_SYSTEM = -102,
    DW_E_DEVICE = -103, DW_E_NO_SPACE = -104, DW_E_INTERNAL = -105,
    DW_E_CORRUPT = -200, DW_E_TRUNCATED = -201, DW_E_HASH = -202, DW_E_FORMAT = -203
};
#endif

/* --- the door ------------------------------------------------------------------------------------------------ */
#ifdef __wasm__
#ifdef __cplusplus
extern "C"
#endif
__attribute__((import_module("driftwood"), import_name("enter")))
int32_t dw_enter(const dw_request *requests, uint32_t n_requests, dw_completion *completions, uint32_t capacity,
                 uint32_t wait, int64_t deadline_ns);
#endif

#endif
