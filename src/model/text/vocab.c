/* vocab.c: the tokenizer, libllama's, loaded on a thread of its own.
 *
 * libllama gets the header of the file as it was mapped and checked (gguf_init_from_buffer), never the path: what was checked is
 * what is loaded, even if somebody replaces the file meanwhile.
 */
#include "model/text/vocab.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "gguf.h"
#include "llama-vocabulary.h"
#include "llama.h"
#include "model/text/hangul.h"
#include "model/text/vocab_check.h"
#include "model/text/vocab_cost.h"
#include "os/os.h"

enum { LOADING, LOADED };
static const size_t stack_bytes = (size_t)8 << 20; /* libllama's loader; most of it is never touched */

struct dw_vocab {
    const dw_gguf *gguf;      /* borrowed until loaded */
    uint32_t n_tokens;
    dw_os_thread *thread;
    dw_gate *gate;            /* opens when the vocabulary is loaded */
    _Atomic int state;        /* LOADED: everything below is there, and constant */
    dw_status status;
    dw_error error;
    struct llama_vocab *vocab;
    bool decomposes;          /* hangul.h */
    dw_vocab_cost cost;
};

/* --- libllama's log ---------------------------------------------------------------------------------------------- */

static void log_from_llama(enum ggml_log_level level, const char *text, void *context) {
    (void)level;
    (void)context;
    size_t length = strlen(text);
    while (length > 0 && text[length - 1] == '\n') length--;
    if (length > 0) dw_log(DW_LOG_DEBUG, "llama", "text=\"%.*s\"", (int)dw_min_u64(length, DW_LOG_LINE_BYTES_MAX), text);
}

/* What goes wrong here is reported as a status; libllama's own lines are for debugging. It sets ggml's log along with its own, which
 * is the device module's to set. */
static void quiet_llama(void) {
    static atomic_flag done = ATOMIC_FLAG_INIT;
    if (atomic_flag_test_and_set(&done)) return;
    ggml_log_callback callback = NULL;
    void *context = NULL;
    ggml_log_get(&callback, &context);
    llama_log_set(log_from_llama, NULL);
    ggml_log_set(callback, context);
}

/* --- loading ----------------------------------------------------------------------------------------------------- */

/* What libllama decided itself from defaults: it asserts these when it tokenizes, so they are looked at before that. */
static dw_status check_loaded(const dw_vocab *vocab, dw_error *err) {
    enum llama_vocab_type type = llama_vocab_type(vocab->vocab);
    if ((type != LLAMA_VOCAB_TYPE_SPM && type != LLAMA_VOCAB_TYPE_BPE && type != LLAMA_VOCAB_TYPE_WPM) ||
        llama_vocab_n_tokens(vocab->vocab) != (int32_t)vocab->n_tokens)
        return dw_fail(err, DW_E_FORMAT, "vocabulary: libllama understood it differently");
    bool word_pieces = type == LLAMA_VOCAB_TYPE_WPM; /* begin and end with a token whatever the switches say */
    if ((llama_vocab_get_add_bos(vocab->vocab) || word_pieces) && llama_vocab_bos(vocab->vocab) < 0)
        return dw_fail(err, DW_E_FORMAT, "vocabulary: text is to begin with a token that the file does not name");
    if (llama_vocab_get_add_eos(vocab->vocab) && llama_vocab_eos(vocab->vocab) < 0)
        return dw_fail(err, DW_E_FORMAT, "vocabulary: text is to end with a token that the file does not name");
    if (word_pieces && llama_vocab_sep(vocab->vocab) < 0)
        return dw_fail(err, DW_E_FORMAT, "vocabulary: text is to end with a separator that the file does not name");
    return DW_OK;
}

/* True for a vocabulary whose texts lose their accents, as libllama decides it; both keys were checked. */
static bool strips_accents(const dw_gguf *gguf) {
    bool lowercase = true, strips = false, found = false;
    if (dw_gguf_bool(gguf, "tokenizer.ggml.normalizer.lowercase", &lowercase, &found, NULL) != DW_OK || !found) lowercase = true;
    if (dw_gguf_bool(gguf, "tokenizer.ggml.normalizer.strip_accents", &strips, &found, NULL) != DW_OK || !found) strips = lowercase;
    return strips;
}

static dw_status load(dw_vocab *vocab, dw_error *err) {
    struct gguf_context *header = NULL;
    const dw_gguf_part first = dw_gguf_part_at(vocab->gguf, 0);
    dw_status status = dw_vocab_check_tokens(vocab->gguf, err);
    if (status != DW_OK) goto out;
    header = gguf_init_from_buffer(first.data, (size_t)first.bytes, (struct gguf_init_params){.no_alloc = true, .ctx = NULL});
    if (!header) {
        status = dw_fail(err, DW_E_FORMAT, "vocabulary: ggml does not take this file (DRIFTWOOD_LOG=debug shows why)");
        goto out;
    }
    char reason[DW_ERROR_TEXT_BYTES];
    vocab->vocab = dw_llama_vocabulary_load(header, reason, sizeof reason);
    if (!vocab->vocab) {
        status = dw_fail(err, DW_E_FORMAT, "vocabulary: libllama does not take it: %s", reason);
        goto out;
    }
    status = check_loaded(vocab, err);
    vocab->decomposes = llama_vocab_type(vocab->vocab) == LLAMA_VOCAB_TYPE_WPM && strips_accents(vocab->gguf);
    if (status == DW_OK) dw_vocab_cost_build(&vocab->cost, vocab->vocab);
out:
    gguf_free(header);
    return status;
}

static void run(void *argument) {
    dw_vocab *vocab = argument;
    uint64_t begin_ns = dw_os_monotonic_ns();
    vocab->status = load(vocab, &vocab->error);
    dw_log(DW_LOG_DEBUG, "vocabulary", "tokens=%u status=%s ms=%" PRIu64, vocab->n_tokens, dw_status_name(vocab->status),
           (dw_os_monotonic_ns() - begin_ns) / 1000000);
    dw_gate_lock(vocab->gate);
    atomic_store_explicit(&vocab->state, LOADED, memory_order_release);
    dw_gate_wake(vocab->gate);
    dw_gate_unlock(vocab->gate);
}

dw_status dw_vocab_create(const dw_gguf *gguf, dw_vocab **out, dw_error *err) {
    *out = NULL;
    uint32_t n_tokens = 0;
    dw_status status = dw_vocab_check_keys(gguf, &n_tokens, err);
    if (status != DW_OK) return status;
    dw_vocab *vocab = calloc(1, sizeof *vocab);
    if (!vocab) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a vocabulary");
    vocab->gguf = gguf;
    vocab->n_tokens = n_tokens;
    quiet_llama();
    status = dw_gate_create(&vocab->gate, err);
    if (status == DW_OK) status = dw_os_thread_create("vocabulary", stack_bytes, run, vocab, &vocab->thread, err);
    if (status == DW_OK) *out = vocab;
    else dw_vocab_destroy(vocab);
    return status;
}

void dw_vocab_destroy(dw_vocab *vocab) {
    if (!vocab) return;
    dw_os_thread_join(vocab->thread);
    dw_llama_vocabulary_free(vocab->vocab);
    dw_gate_destroy(vocab->gate);
    free(vocab);
}

static bool is_loaded(void *context) {
    const dw_vocab *vocab = context;
    return atomic_load_explicit(&vocab->state, memory_order_acquire) == LOADED;
}

dw_status dw_vocab_wait_in_turn(dw_vocab *vocab, dw_park *park, dw_error *err) {
    if (!is_loaded(vocab)) {
        dw_gate_lock(vocab->gate);
        dw_status status = dw_gate_wait(vocab->gate, park, is_loaded, vocab);
        dw_gate_unlock(vocab->gate);
        if (status != DW_OK) return dw_fail(err, status, "the turn ended before the vocabulary was loaded");
    }
    if (vocab->status != DW_OK && err) *err = vocab->error;
    return vocab->status;
}

dw_status dw_vocab_wait(dw_vocab *vocab, dw_error *err) { return dw_vocab_wait_in_turn(vocab, NULL, err); }

/* --- text and tokens --------------------------------------------------------------------------------------------- */

dw_status dw_vocab_tokenize(dw_vocab *vocab, const char *text, size_t length, bool add_special, bool parse_special, int32_t *tokens,
                            size_t capacity, size_t *n, dw_error *err) {
    *n = 0;
    if (length > DW_TEXT_BYTES_MAX)
        return dw_fail(err, DW_E_LIMIT, "text of %zu bytes to tokenize, at most %" PRIu64 " are taken", length, DW_TEXT_BYTES_MAX);
    dw_status status = dw_vocab_wait(vocab, err);
    if (status == DW_OK) status = dw_vocab_cost_check(&vocab->cost, text, length, parse_special, err);
    if (status != DW_OK) return status;
    size_t decomposed = vocab->decomposes ? dw_hangul_decomposed_bytes(text, length) : length;
    char *letters = NULL;
    if (decomposed != length) {
        letters = malloc(decomposed);
        if (!letters) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a text of %zu bytes", decomposed);
        dw_hangul_decompose(text, length, letters);
    }
    int32_t room = capacity < INT32_MAX ? (int32_t)capacity : INT32_MAX;
    int32_t made = llama_tokenize(vocab->vocab, letters ? letters : text, (int32_t)decomposed, tokens, room, add_special, parse_special);
    free(letters);
    if (made == INT32_MIN) return dw_fail(err, DW_E_LIMIT, "the text has too many tokens");
    *n = (size_t)(made < 0 ? -made : made);
    return made < 0 ? dw_fail(err, DW_E_FULL, "the text has %zu tokens, there is room for %zu", *n, capacity) : DW_OK;
}

dw_status dw_vocab_piece(dw_vocab *vocab, int32_t token, bool special, char *out, size_t capacity, size_t *n) {
    *n = 0;
    dw_status status = dw_vocab_wait(vocab, NULL);
    if (status != DW_OK) return status;
    if (token < 0 || (uint32_t)token >= vocab->n_tokens) return DW_E_RANGE;
    int32_t room = capacity < INT32_MAX ? (int32_t)capacity : INT32_MAX;
    int32_t size = llama_token_to_piece(vocab->vocab, token, out, room, 0, special);
    *n = (size_t)(size < 0 ? -size : size);
    return size < 0 ? DW_E_FULL : DW_OK;
}

dw_status dw_vocab_detokenize(dw_vocab *vocab, const int32_t *tokens, size_t n_tokens, bool special, char *out, size_t capacity,
                              size_t *n, dw_error *err) {
    *n = 0;
    dw_status status = dw_vocab_wait(vocab, err);
    if (status != DW_OK) return status;
    size_t needed = 0;
    bool full = false;
    for (size_t i = 0; i < n_tokens; i++) {
        size_t size;
        /* Once it is full only lengths are asked for. */
        status = dw_vocab_piece(vocab, tokens[i], special, full ? NULL : out + needed, full ? 0 : capacity - needed, &size);
        if (status != DW_OK && status != DW_E_FULL)
            return dw_fail(err, status, "token %d is not in the vocabulary of %u", tokens[i], vocab->n_tokens);
        full = full || status == DW_E_FULL;
        needed += size;
    }
    *n = needed;
    return full ? dw_fail(err, DW_E_FULL, "the text has %zu bytes, there is room for %zu", needed, capacity) : DW_OK;
}

bool dw_vocab_is_end(dw_vocab *vocab, int32_t token) {
    return dw_vocab_wait(vocab, NULL) == DW_OK && llama_vocab_is_eog(vocab->vocab, token);
}

bool dw_vocab_is_control(dw_vocab *vocab, int32_t token) {
    return dw_vocab_wait(vocab, NULL) == DW_OK && llama_vocab_is_control(vocab->vocab, token);
}

int32_t dw_vocab_bos(dw_vocab *vocab) { return dw_vocab_wait(vocab, NULL) == DW_OK ? llama_vocab_bos(vocab->vocab) : -1; }
int32_t dw_vocab_eos(dw_vocab *vocab) { return dw_vocab_wait(vocab, NULL) == DW_OK ? llama_vocab_eos(vocab->vocab) : -1; }
uint32_t dw_vocab_size(dw_vocab *vocab) { return vocab->n_tokens; }
