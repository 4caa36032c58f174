/* dw.h: the SDK for Driftwood programs in C. Compile dw.c together with your program; README.md shows a first one.
 *
 *   program   what you write: one function, dw_receive, and whatever state you like in plain variables
 *   turn      one call of dw_receive: one message handled. All of it is kept, or nothing
 *   session   a conversation with a language model. It belongs to the actor and outlives turns
 *   request   one operation given to the host (driftwood/guest.h lists them all); its completion is the answer
 *
 * Rules
 * 1. Everything returns a status: 0, or one of the negative DW_E_*; dw_status_text names it. Results come through pointers, which are
 *    written on success only, unless the function says otherwise.
 * 2. A function that waits lets other actors run meanwhile. Your program is never called a second time while it waits.
 * 3. Nothing is allocated behind your back. The one function that allocates says so in its name: dw_message_copy.
 * 4. All sizes are uint32_t: a program's memory is 32 bits wide. Texts are bytes with a length, UTF-8 by habit; functions that end in
 *    `_text` and the printf-like ones take NUL-terminated strings.
 * 5. Memory that you hand over for one blocking call is yours again when it returns. For a request that you submitted, output memory must
 *    stay valid until its completion; inputs (tokens, texts, options) may go at once, the host has copied them.
 * 6. Plain state survives everything: freeze, thaw, fork. So a dw_session in a static variable is simply still open after a thaw.
 */
#ifndef DRIFTWOOD_DW_H
#define DRIFTWOOD_DW_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <driftwood/guest.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DW_CHECKED __attribute__((warn_unused_result))
#define DW_FORMAT(format_at, first_at) __attribute__((format(printf, format_at, first_at)))

/* --- your program -------------------------------------------------------------------------------------------- */

/* You write this. Called once for each message. Return 0 to commit the turn; a negative status gives it up: memory, sessions and mailbox
 * are as before it, and the sender gets the status. The SDK exports it to the host as driftwood_receive. */
int32_t dw_receive(void);

/* "no room left (context, queue or buffer)" for DW_E_FULL, and so on; "unknown status" for other numbers. Static; never NULL. */
const char *dw_status_text(int32_t status);

/* --- the turn ------------------------------------------------------------------------------------------------ */

/* The message. Copies at most capacity - 1 bytes and a NUL. *size (may be NULL) = bytes of the whole message, always written on 0 and
 * DW_E_FULL. DW_E_FULL: it did not fit, `buffer` holds its beginning. */
int32_t dw_message(char *buffer, uint32_t capacity, uint32_t *size) DW_CHECKED;
/* The whole message with a NUL behind it, from malloc: free it. NULL: no memory, or no message. */
char *dw_message_copy(uint32_t *size) DW_CHECKED;
/* The number of this turn, from 1. */
int32_t dw_turn_number(uint64_t *turn) DW_CHECKED;

/* The answer to the message; several calls append. It leaves when the turn commits. */
int32_t dw_reply(const void *data, uint32_t size) DW_CHECKED;
int32_t dw_reply_text(const char *text) DW_CHECKED;
/* printf-like, up to DW_FORMATTED_BYTES_MAX bytes. Longer: DW_E_FULL, and nothing is sent. */
int32_t dw_replyf(const char *format, ...) DW_FORMAT(1, 2) DW_CHECKED;

/* Streams to whoever is watching, at once; marked as not yet committed. */
int32_t dw_emit(const void *text, uint32_t size);
int32_t dw_emitf(const char *format, ...) DW_FORMAT(1, 2);

enum dw_log_level { DW_LOG_ERROR = 0, DW_LOG_WARNING = 1, DW_LOG_INFO = 2, DW_LOG_DEBUG = 3, DW_LOG_TRACE = 4 };
/* One line in the actor's log. Text beyond DW_FORMATTED_BYTES_MAX is cut. */
int32_t dw_log(enum dw_log_level level, const char *format, ...) DW_FORMAT(2, 3);

enum { DW_FORMATTED_BYTES_MAX = 1024 };

/* True when the user asked this turn to stop: end soon, in good order. Generations end by themselves. */
bool dw_interrupted(void);
/* Waits that long; other actors run meanwhile. */
int32_t dw_sleep(uint64_t nanoseconds);

/* --- sessions ------------------------------------------------------------------------------------------------ */

typedef struct dw_session {
    uint32_t handle;         /* 0: not open */
    uint32_t context_tokens; /* longest log */
    uint32_t n_vocab;        /* tokens are 0 .. n_vocab - 1; a row of logits has n_vocab floats */
} dw_session;

/* Opens a session with an empty log. model NULL: the node's default model. seed: of everything sampled in it. flags: 0, or
 * DW_FLAG_FAST, DW_FLAG_SHARED (rows of a common prefix are shared with other owners' sessions that have it). DW_E_NOT_FOUND: no such model; DW_E_LIMIT: too many sessions. */
int32_t dw_session_open(const char *model, uint64_t seed, uint16_t flags, dw_session *out) DW_CHECKED;
/* Closes it and sets the handle to 0. One that is not open is fine. */
int32_t dw_session_close(dw_session *session);
/* *n_tokens = length of the log; *n_rows (may be NULL) = how many of these are evaluated; the rest is pending. */
int32_t dw_session_length(const dw_session *session, uint32_t *n_tokens, uint32_t *n_rows) DW_CHECKED;
/* Copies log tokens first .. first + n - 1 to `out`; *copied says how many there were. */
int32_t dw_session_tokens(const dw_session *session, uint32_t first, int32_t *out, uint32_t n, uint32_t *copied) DW_CHECKED;
/* Shortens the log to n tokens. DW_E_RANGE when it is shorter already. */
int32_t dw_session_rewind(const dw_session *session, uint32_t n_tokens) DW_CHECKED;
/* A second session with the same past. Costs memory maps, not copies. */
int32_t dw_session_fork(const dw_session *session, dw_session *out) DW_CHECKED;
/* Makes the log equal to tokens[n]. The common prefix is kept; *n_reused (may be NULL) = tokens of it that need no evaluation. The rest is
 * pending: the next forward or generate evaluates it. Keep your transcript as tokens, sync to it, and nothing is computed twice. */
int32_t dw_session_sync(const dw_session *session, const int32_t *tokens, uint32_t n_tokens, uint32_t *n_reused) DW_CHECKED;

/* --- text ---------------------------------------------------------------------------------------------------- */

/* A session that is not open (all zero) stands for the default model's vocabulary in this section. */

/* Text to tokens, in the vocabulary of the session's model. flags: DW_FLAG_SPECIAL says that the text begins a log, and
 * adds what the model wants there (BOS, a space), never an end; without it the text goes on in a log and stays what it
 * is. DW_FLAG_CONTROL recognises control tokens written in the text (never for text of others). *n = tokens needed,
 * written on 0 and DW_E_FULL. DW_E_FULL: they do not fit; nothing is in `out`. */
int32_t dw_tokenize(const dw_session *session, const char *text, uint32_t size, uint16_t flags, int32_t *out, uint32_t capacity,
                    uint32_t *n) DW_CHECKED;
/* Tokens to text, with a NUL behind it. *size (may be NULL) = bytes needed without the NUL, written on 0 and DW_E_FULL. */
int32_t dw_detokenize(const dw_session *session, const int32_t *tokens, uint32_t n_tokens, uint16_t flags, char *out, uint32_t capacity,
                      uint32_t *size) DW_CHECKED;
/* *flags = DW_TOKEN_END and DW_TOKEN_CONTROL as they apply. */
int32_t dw_token_info(const dw_session *session, int32_t token, uint32_t *flags) DW_CHECKED;
/* Beginning and end of text; -1 where the model has none. Either may be NULL. */
int32_t dw_special_tokens(const dw_session *session, int32_t *bos, int32_t *eos) DW_CHECKED;

/* --- forward: one step, and what you want to know of it ------------------------------------------------------- */

/* A row says what is wanted of one token's output. Start with dw_row_at or dw_row_last and add wishes:
 *
 *     dw_scored_token top[5];
 *     dw_row row = dw_row_last();
 *     dw_row_top(&row, top, 5);
 *     status = dw_forward(&session, tokens, n_tokens, &row, 1);
 *
 * Log-probabilities are natural logarithms over the whole vocabulary, at temperature 1. */
dw_row dw_row_at(uint32_t index); /* of tokens[index] of this call. Ascending over the rows of one call */
dw_row dw_row_last(void);         /* of the last token of the log; the last row of a call */
/* logits[n_vocab], 64-byte aligned. The device writes there itself where it can; no other request completes in between. */
void dw_row_logits(dw_row *row, float *logits);
void dw_row_top(dw_row *row, dw_scored_token *top, uint32_t n);         /* the n likeliest, likeliest first */
void dw_row_candidates(dw_row *row, const int32_t *tokens, float *logprobs, uint32_t n);
void dw_row_entropy(dw_row *row, float *nats);
/* A token drawn with the session's random state. It is not appended: give it to the next forward. */
void dw_row_sample(dw_row *row, dw_sampling_options sampling, dw_scored_token *sampled);

/* Appends tokens[n] to the log, evaluates all that is pending, delivers the rows. All or nothing: after a failure the log is as before.
 * DW_E_FULL: the context is full. */
int32_t dw_forward(const dw_session *session, const int32_t *tokens, uint32_t n_tokens, const dw_row *rows, uint32_t n_rows) DW_CHECKED;

/* The same, and the session holds the logits of the log's last token until the log changes, through the end of the turn
 * and through a freeze. A forward or generate without tokens reads them instead of evaluating that token once more: for
 * a program that prepares a prompt in one turn and draws in a later one. DW_E_FULL: they do not fit in the node's
 * memory for sessions. In a request: flags = DW_FLAG_HOLD. */
int32_t dw_forward_and_hold(const dw_session *session, const int32_t *tokens, uint32_t n_tokens, const dw_row *rows,
                            uint32_t n_rows) DW_CHECKED;

/* --- generate: the whole loop in the host ---------------------------------------------------------------------- */

enum { DW_STOPS_MAX = 16 };

typedef struct dw_generation {
    /* what you want; dw_generation_defaults() sets it all */
    const int32_t *tokens; uint32_t n_tokens; /* appended to the log first */
    uint32_t n_max;                           /* tokens to make at most */
    dw_sampling_options sampling;
    const char *const *stops; uint32_t n_stops; /* at most DW_STOPS_MAX; a stop is neither delivered nor kept in the log */
    bool emit;                                /* stream the text to whoever is watching, as it comes */
    bool ignore_end;                          /* go on after an end token */
    char *text; uint32_t text_capacity;       /* where the text goes, with a NUL behind it */
    /* what came of it */
    uint32_t text_bytes;                      /* without the NUL */
    uint32_t n_made;                          /* tokens */
    uint32_t end;                             /* DW_GENERATE_END_TOKEN, _STOP, _LENGTH (also: interrupted), _CONTEXT */
    uint32_t stop_index;                      /* with DW_GENERATE_STOP */
    /* the SDK's own: what a request points to until it is submitted */
    dw_generate_options options_;
    dw_text stops_[DW_STOPS_MAX];
} dw_generation;

/* 256 tokens, temperature 0.7, top-k 40, top-p 0.95; no stops, no streaming, no text buffer. */
dw_generation dw_generation_defaults(void);
/* DW_E_FULL: the text did not fit and only its beginning is there (the log has all of it), or the context was full before the first token.
 * The results are filled in whatever the status is. */
int32_t dw_generate(const dw_session *session, dw_generation *generation) DW_CHECKED;

/* --- embed: texts to vectors ------------------------------------------------------------------------------------ */

/* {&text, length of it}, as an element of dw_embedding.texts. */
dw_text dw_text_of(const char *text);

typedef struct dw_embedding {
    const char *model;                      /* of the node: an encoder, or a decoder, pooled; NULL: the default model */
    const dw_text *texts; uint32_t n_texts; /* dw_text_of each; at most 1,024 */
    bool are_tokens;                        /* the texts are i32 tokens (len counts them), special ones included */
    bool raw;                               /* leave the vectors' lengths as they are; else each is scaled to length 1 */
    uint32_t pooling;                       /* DW_EMBED_MEAN, DW_EMBED_CLS, DW_EMBED_LAST; 0: the model's own */
    float *vectors; uint32_t capacity;      /* -> f32[n_texts][dimensions], 64-byte aligned; room for so many floats */
    /* results, filled in whatever the status is */
    uint32_t dimensions;                    /* numbers of one vector */
    uint32_t n_tokens;                      /* evaluated; with DW_E_FULL those of the text that is too long */
    uint32_t context_tokens;                /* of the longest text that the model takes */
} dw_embedding;

/* Each text to its vector; the device writes there itself where it can. With n_texts 0 and capacity 0 only `dimensions` and
 * `context_tokens` are filled in. DW_E_FULL: a text is too long. DW_E_RANGE: `capacity` is too small. DW_E_UNSUPPORTED: the
 * model's own pooling is not one of these; ask for another. */
int32_t dw_embed(dw_embedding *embedding) DW_CHECKED;
/* The inner product: of vectors of length 1, their cosine. */
float dw_dot(const float *a, const float *b, uint32_t n);

/* --- compute: tensor operations on your own memory ------------------------------------------------------------- */

/* A row-major F32 matrix at `data`, which must be aligned to DW_TENSOR_ALIGN; on a page boundary more devices can work in place. */
dw_tensor dw_matrix(const float *data, uint32_t rows, uint32_t columns);

typedef struct dw_computation {
    const char *device; /* "cpu", "vulkan", ...; NULL: the actor's */
    const dw_tensor *tensors; uint32_t n_tensors;
    const dw_node *nodes; uint32_t n_nodes; /* run in order */
    bool copy;          /* take the explicit-copy path, for comparison */
    uint64_t compute_ns, copied_bytes; /* results; 0 copied: the device worked in place */
} dw_computation;

int32_t dw_compute(dw_computation *computation) DW_CHECKED;

/* --- several things at once ------------------------------------------------------------------------------------ */

/* Requests for the functions below. They only fill in a record; nothing happens until it is called or submitted. What a request points to
 * (tokens, rows, the dw_generation) must stay until then. Any operation of guest.h can be filled in by hand as well, with dw_address. */
dw_request dw_forward_request(const dw_session *session, const int32_t *tokens, uint32_t n_tokens, const dw_row *rows, uint32_t n_rows);
dw_request dw_generate_request(const dw_session *session, dw_generation *generation); /* see dw_generation_take */
dw_request dw_sleep_request(uint64_t nanoseconds);

/* One request, waited for. `out` may be NULL. Returns its status. */
int32_t dw_call(const dw_request *request, dw_completion *out) DW_CHECKED;
/* n requests in one step, all waited for: forward steps of several sessions go to the device together. completions[i] belongs to
 * requests[i] (user_data is the SDK's here). Returns 0, or the first failure by index; completions[] tells which ones did work. */
int32_t dw_call_all(dw_request *requests, uint32_t n, dw_completion *completions) DW_CHECKED;

/* Starts n requests and returns without waiting, except for those that lend memory (forward with logits, compute): these are done when it
 * returns. Set user_data yourself, below DW_USER_DATA_END: it is how you tell completions apart. DW_E_LIMIT: more than
 * DW_SUBMITTED_MAX would be under way. What is under way when the turn ends is cancelled. */
int32_t dw_submit(const dw_request *requests, uint32_t n) DW_CHECKED;
/* The next completion of what was submitted, oldest first. timeout_ns: 0 polls, negative waits without limit.
 * Returns 0 when *out is filled (its own status is in out->status); DW_E_DEADLINE: none yet; DW_E_NOT_FOUND: nothing is under way. */
int32_t dw_wait(dw_completion *out, int64_t timeout_ns) DW_CHECKED;
/* Cancels what was submitted with this user_data; it still completes, with DW_E_CANCELLED. *n (may be NULL) = how many. */
int32_t dw_cancel(uint64_t user_data, uint32_t *n);
/* Puts the results of a submitted generation into it. Returns the completion's status. */
int32_t dw_generation_take(dw_generation *generation, const dw_completion *completion);

enum { DW_SUBMITTED_MAX = 256 };
#define DW_USER_DATA_END (UINT64_C(1) << 63)

/* The number that the ABI uses for an address. */
#ifdef __wasm__
static inline uint32_t dw_address(const void *pointer) { return (uint32_t)(uintptr_t)pointer; }
#else
/* Outside Wasm there is no host: whoever links the SDK natively, to test a program, brings both (tests/programs/fake_host.c). */
uint32_t dw_address(const void *pointer);
int32_t dw_enter(const dw_request *requests, uint32_t n_requests, dw_completion *completions, uint32_t capacity, uint32_t wait,
                 int64_t deadline_ns);
#endif

/* What the host calls; dw.c defines it. */
int32_t driftwood_receive(void);

#ifdef __cplusplus
}
#endif

#endif
