/* vocab.c: the tokenizer, libllama's, loaded on a thread of its own.
 *
 * libllama gets the header of the file as it was mapped and checked, never the path: what was checked is what is
 * loaded, even if somebody replaces the file meanwhile.
 */
#include "model/text/vocab.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "model/text/bert_text.h"
#include "model/text/llama_shim.h"
#include "model/text/utf8.h"
#include "model/text/vocab_check.h"
#include "model/text/vocab_cost.h"
#include "os/os.h"

enum { LOADING, LOADED };
enum { FIRST_LEAD = 1, LAST_LEAD = 31 };
static const size_t loader_stack_bytes = (size_t)8 << 20; /* most of it is never touched */
static const size_t own_stack_bytes = (size_t)160 << 10;  /* that tokenizing may take of its caller's */

/* A token that is cut out of a text before the rest is normalized. */
typedef struct special_token { const char *text; uint32_t size; bool is_control; } special_token;

struct dw_vocab {
    const dw_gguf *gguf;      /* borrowed until loaded */
    dw_vocab_facts facts;
    dw_os_thread *thread;
    dw_gate *gate;            /* opens when the vocabulary is loaded */
    dw_vocab_listener *listeners; /* under the gate's lock */
    _Atomic int state;        /* LOADED: everything below is there, and constant */
    dw_status status;
    dw_error error;
    dw_llama *llama;
    dw_llama_facts made;
    uint8_t *flags;           /* [n_tokens] DW_LLAMA_TOKEN_* */
    /* SentencePiece puts a space before a text, also before one that goes on. Behind a character that no token has, it
     * puts none: such a text is tokenized with that character in front, and the tokens of both are cut off. */
    char lead;
    size_t n_lead;            /* tokens cut off; 0: none are needed */
    dw_bert_rules bert;
    DW_VEC(special_token) specials; /* of WordPiece, longest first; texts are libllama's */
    dw_vocab_cost cost;
};

/* --- loading ----------------------------------------------------------------------------------------------------- */

/* What libllama decided itself from defaults: it asserts these when it tokenizes, so they are looked at before that. */
static dw_status check_loaded(const dw_vocab *vocab, dw_error *err) {
    const dw_llama_facts *made = &vocab->made;
    if (made->kind != vocab->facts.kind || made->n_tokens != (int32_t)vocab->facts.n_tokens)
        return dw_fail(err, DW_E_FORMAT, "vocabulary: libllama understood it differently");
    bool word_pieces = made->kind == DW_LLAMA_WORD_PIECES; /* begin and end with a token whatever the switches say */
    if ((made->adds_bos || word_pieces) && made->bos < 0)
        return dw_fail(err, DW_E_FORMAT, "vocabulary: text is to begin with a token that the file does not name");
    if (made->adds_eos && made->eos < 0)
        return dw_fail(err, DW_E_FORMAT, "vocabulary: text is to end with a token that the file does not name");
    if (word_pieces && made->separator < 0)
        return dw_fail(err, DW_E_FORMAT, "vocabulary: text is to end with a separator that the file does not name");
    return DW_OK;
}

/* As libllama decides it; both keys were checked. */
static dw_bert_rules bert_rules(const dw_gguf *gguf) {
    dw_bert_rules rules = {.lowers = true};
    bool found = false;
    if (dw_gguf_bool(gguf, "tokenizer.ggml.normalizer.lowercase", &rules.lowers, &found, NULL) != DW_OK || !found)
        rules.lowers = true;
    if (dw_gguf_bool(gguf, "tokenizer.ggml.normalizer.strip_accents", &rules.strips_accents, &found, NULL) != DW_OK ||
        !found)
        rules.strips_accents = rules.lowers;
    return rules;
}

static int longest_first(const void *a, const void *b) {
    const special_token *x = a, *y = b;
    return (x->size < y->size) - (x->size > y->size);
}

static dw_status note_special_token(dw_vocab *vocab, const char *text, unsigned flags, dw_error *err) {
    unsigned special = DW_LLAMA_TOKEN_CONTROL | DW_LLAMA_TOKEN_UNKNOWN | DW_LLAMA_TOKEN_WHOLE;
    if (vocab->made.kind != DW_LLAMA_WORD_PIECES || (flags & special) == 0 || text[0] == 0) return DW_OK;
    if (DW_VEC_RESERVE(&vocab->specials, 1, DW_VOCAB_TOKENS_MAX) != DW_OK)
        return dw_fail(err, DW_E_NO_MEMORY, "vocabulary: no memory for its special tokens");
    vocab->specials.items[vocab->specials.count++] =
        (special_token){text, (uint32_t)strlen(text), (flags & DW_LLAMA_TOKEN_WHOLE) == 0};
    return DW_OK;
}

/* Everything that is wanted of single tokens. *used: which of the control characters 1 to 31 stand in a token. */
static dw_status look_at_tokens(dw_vocab *vocab, uint32_t *used, dw_error *err) {
    vocab->flags = malloc(vocab->facts.n_tokens);
    if (!vocab->flags)
        return dw_fail(err, DW_E_NO_MEMORY, "vocabulary: no memory for %u tokens", vocab->facts.n_tokens);
    dw_vocab_cost_init(&vocab->cost, vocab->facts.kind, vocab->facts.splitter);
    for (uint32_t id = 0; id < vocab->facts.n_tokens; id++) {
        const char *text;
        unsigned flags;
        dw_status status = dw_llama_token(vocab->llama, (int32_t)id, &text, &flags, err);
        if (status == DW_OK) status = note_special_token(vocab, text, flags, err);
        if (status != DW_OK) return status;
        vocab->flags[id] = (uint8_t)flags;
        dw_vocab_cost_add(&vocab->cost, text, flags);
        for (const char *c = text; *c; c++) {
            if (*c >= FIRST_LEAD && *c <= LAST_LEAD) *used |= UINT32_C(1) << *c;
        }
    }
    if (vocab->specials.count > 0)
        qsort(vocab->specials.items, vocab->specials.count, sizeof vocab->specials.items[0], longest_first);
    return DW_OK;
}

static dw_status find_lead(dw_vocab *vocab, uint32_t used, dw_error *err) {
    if (vocab->made.kind != DW_LLAMA_SENTENCE_PIECE) return DW_OK;
    char lead = FIRST_LEAD;
    while (lead <= LAST_LEAD && (used >> lead & 1)) lead++;
    if (lead > LAST_LEAD) return dw_fail(err, DW_E_UNSUPPORTED, "vocabulary: every control character is in a token");
    int32_t tokens[8];
    size_t n = 0;
    dw_status status = dw_llama_tokenize(vocab->llama, &lead, 1, false, false, tokens, 8, &n, err);
    if (status != DW_OK) return dw_error_prefix(err, DW_E_FORMAT, "vocabulary: cannot tokenize one character: ");
    vocab->lead = lead;
    vocab->n_lead = n > 1 ? n : 0; /* one token: no space was put before it */
    return DW_OK;
}

static dw_status load_vocab(dw_vocab *vocab, dw_error *err) {
    const dw_gguf_part first = dw_gguf_part_at(vocab->gguf, 0);
    bool word_pieces = vocab->facts.kind == DW_LLAMA_WORD_PIECES;
    uint32_t used = 0;
    dw_status status = dw_vocab_check_tokens(vocab->gguf, &vocab->facts, err);
    if (status == DW_OK)
        status = dw_llama_open(first.data, (size_t)first.bytes, word_pieces, &vocab->llama, &vocab->made, err);
    if (status == DW_OK) status = check_loaded(vocab, err);
    if (status == DW_OK) status = look_at_tokens(vocab, &used, err);
    if (status == DW_OK) status = find_lead(vocab, used, err);
    if (word_pieces) vocab->bert = bert_rules(vocab->gguf);
    return status;
}

static void run_loader(void *argument) {
    dw_vocab *vocab = argument;
    uint64_t begin_ns = dw_os_monotonic_ns();
    vocab->status = load_vocab(vocab, &vocab->error);
    dw_log(DW_LOG_DEBUG, "vocabulary", "tokens=%u status=%s ms=%" PRIu64, vocab->facts.n_tokens,
           dw_status_name(vocab->status), (dw_os_monotonic_ns() - begin_ns) / 1000000);
    dw_gate_lock(vocab->gate);
    atomic_store_explicit(&vocab->state, LOADED, memory_order_release);
    dw_gate_wake(vocab->gate);
    while (vocab->listeners) {
        dw_vocab_listener *listener = vocab->listeners;
        vocab->listeners = listener->next;
        listener->call(listener->context);
    }
    dw_gate_unlock(vocab->gate);
}

dw_status dw_vocab_create(const dw_gguf *gguf, dw_vocab **out, dw_error *err) {
    *out = NULL;
    dw_vocab_facts facts;
    dw_status status = dw_vocab_check_keys(gguf, &facts, err);
    if (status != DW_OK) return status;
    dw_vocab *vocab = calloc(1, sizeof *vocab);
    if (!vocab) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a vocabulary");
    vocab->gguf = gguf;
    vocab->facts = facts;
    status = dw_gate_create(&vocab->gate, err);
    if (status == DW_OK)
        status = dw_os_thread_create("vocabulary", loader_stack_bytes, run_loader, vocab, &vocab->thread, err);
    if (status == DW_OK) *out = vocab;
    else dw_vocab_destroy(vocab);
    return status;
}

void dw_vocab_destroy(dw_vocab *vocab) {
    if (!vocab) return;
    dw_os_thread_join(vocab->thread);
    dw_llama_close(vocab->llama);
    dw_gate_destroy(vocab->gate);
    DW_VEC_DEINIT(&vocab->specials);
    free(vocab->flags);
    free(vocab);
}

bool dw_vocab_is_settled(const dw_vocab *vocab) {
    return atomic_load_explicit(&vocab->state, memory_order_acquire) == LOADED;
}

static bool is_loaded(void *context) { return dw_vocab_is_settled(context); }

bool dw_vocab_listen(dw_vocab *vocab, dw_vocab_listener *listener) {
    dw_gate_lock(vocab->gate);
    bool listens = !dw_vocab_is_settled(vocab);
    if (listens) {
        listener->next = vocab->listeners;
        vocab->listeners = listener;
    }
    dw_gate_unlock(vocab->gate);
    return listens;
}

void dw_vocab_unlisten(dw_vocab *vocab, const dw_vocab_listener *listener) {
    dw_gate_lock(vocab->gate);
    dw_vocab_listener **link = &vocab->listeners;
    while (*link && *link != listener) link = &(*link)->next;
    if (*link) *link = listener->next;
    dw_gate_unlock(vocab->gate);
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

/* --- a text before libllama sees it ------------------------------------------------------------------------------ */

/* The text as it is tokenized; `owned` where it is not the caller's. */
typedef struct prepared_text { const char *text; char *owned; size_t length; } prepared_text;

static dw_status take_prepared_text(prepared_text *p, char *text, size_t length, dw_error *err) {
    if (!text) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a text of %zu bytes", length);
    free(p->owned);
    *p = (prepared_text){text, text, length};
    return DW_OK;
}

/* Rule 1 of vocab.h. */
static dw_status repair_text(prepared_text *p, dw_error *err) {
    uint32_t point = 0;
    size_t at = 0;
    while (at < p->length && point != DW_UTF8_REPLACEMENT) at += dw_utf8_step(p->text + at, p->length - at, &point);
    if (point != DW_UTF8_REPLACEMENT) return DW_OK; /* a U+FFFD of the text's own is repaired to itself */
    size_t bytes = dw_utf8_repaired_bytes(p->text, p->length);
    char *repaired = malloc(bytes);
    if (repaired) dw_utf8_repair(p->text, p->length, repaired);
    return take_prepared_text(p, repaired, bytes, err);
}

/* Bytes of the special token at text, or 0. */
static size_t special_at(const dw_vocab *vocab, const char *text, size_t left, bool parse_special) {
    for (size_t i = 0; i < vocab->specials.count; i++) {
        const special_token *special = &vocab->specials.items[i];
        if (special->is_control && !parse_special) continue;
        if (special->size <= left && memcmp(special->text, text, special->size) == 0) return special->size;
    }
    return 0;
}

/* Normalizes what lies between special tokens; returns the bytes, written to `out` where it is not NULL. */
static size_t normalize_between(const dw_vocab *vocab, const char *text, size_t length, bool parse_special, char *out) {
    size_t bytes = 0, begin = 0;
    for (size_t at = 0; at <= length;) {
        size_t size = at < length ? special_at(vocab, text + at, length - at, parse_special) : 0;
        if (at == length || size > 0) {
            bytes += dw_bert_normalize(&vocab->bert, text + begin, at - begin, out ? out + bytes : NULL);
            if (out && size > 0) memcpy(out + bytes, text + at, size);
            bytes += size;
            begin = at + size;
        }
        at += size > 0 ? size : 1;
    }
    return bytes;
}

static dw_status prepare_text(const dw_vocab *vocab, dw_text_place place, bool parse_special, prepared_text *p,
                              dw_error *err) {
    dw_status status = repair_text(p, err);
    if (status == DW_OK && vocab->made.kind == DW_LLAMA_WORD_PIECES) {
        size_t bytes = normalize_between(vocab, p->text, p->length, parse_special, NULL);
        char *normal = malloc(bytes + 1);
        if (normal) (void)normalize_between(vocab, p->text, p->length, parse_special, normal);
        status = take_prepared_text(p, normal, bytes, err);
    }
    if (status == DW_OK && place == DW_TEXT_GOES_ON && vocab->n_lead > 0) {
        char *led = malloc(p->length + 1);
        if (led) {
            led[0] = vocab->lead;
            memcpy(led + 1, p->text, p->length);
        }
        status = take_prepared_text(p, led, p->length + 1, err);
    }
    return status;
}

/* --- text to tokens ---------------------------------------------------------------------------------------------- */

typedef struct tokenizing {
    const dw_vocab *vocab;
    prepared_text text;
    dw_text_place place;
    bool parse_special;
    int32_t *tokens;
    size_t capacity, n;
    dw_status status;
    dw_error error;
} tokenizing;

static dw_status full(size_t n, size_t capacity, dw_error *err) {
    return dw_fail(err, DW_E_FULL, "the text has %zu tokens, there is room for %zu", n, capacity);
}

/* A text that begins: libllama adds BOS and EOS together, so BOS is put here. */
static dw_status tokenize_first(tokenizing *t, dw_error *err) {
    const dw_llama_facts *made = &t->vocab->made;
    size_t n_before = made->adds_bos || made->kind == DW_LLAMA_WORD_PIECES ? 1 : 0;
    size_t room = t->capacity > n_before ? t->capacity - n_before : 0;
    dw_status status = dw_llama_tokenize(t->vocab->llama, t->text.text, t->text.length, false, t->parse_special,
                                         room > 0 ? t->tokens + n_before : NULL, room, &t->n, err);
    if (status != DW_OK && status != DW_E_FULL) return status;
    t->n += n_before;
    if (t->n > t->capacity) return full(t->n, t->capacity, err);
    if (n_before > 0) t->tokens[0] = made->bos;
    return status;
}

/* A text that goes on, behind the lead: the lead's tokens are cut off. */
static dw_status tokenize_behind_lead(tokenizing *t, dw_error *err) {
    size_t n_lead = t->vocab->n_lead;
    size_t most =
        4 * t->text.length + 16; /* a byte is at most a token; behind a special one comes a space, of three bytes */
    size_t room = (t->capacity < most ? t->capacity : most) + n_lead;
    int32_t *tokens = malloc(room * sizeof *tokens);
    if (!tokens) return dw_fail(err, DW_E_NO_MEMORY, "no memory for %zu tokens", room);
    dw_status status = dw_llama_tokenize(t->vocab->llama, t->text.text, t->text.length, false, t->parse_special, tokens,
                                         room, &t->n, err);
    if (status == DW_OK || status == DW_E_FULL) {
        t->n -= n_lead;
        if (status == DW_E_FULL) status = full(t->n, t->capacity, err);
        else if (t->n > 0) memcpy(t->tokens, tokens + n_lead, t->n * sizeof *tokens);
    }
    free(tokens);
    return status;
}

static void run_tokenizer(void *argument) {
    tokenizing *t = argument;
    if (t->place == DW_TEXT_BEGINS) t->status = tokenize_first(t, &t->error);
    else if (t->place == DW_TEXT_GOES_ON && t->vocab->n_lead > 0) t->status = tokenize_behind_lead(t, &t->error);
    else
        t->status = dw_llama_tokenize(t->vocab->llama, t->text.text, t->text.length, t->place == DW_TEXT_WHOLE,
                                      t->parse_special, t->tokens, t->capacity, &t->n, &t->error);
}

dw_status dw_vocab_tokenize(dw_vocab *vocab, const char *text, size_t length, dw_text_place place, bool parse_special,
                            int32_t *tokens, size_t capacity, size_t *n, dw_error *err) {
    *n = 0;
    if (length > DW_TEXT_BYTES_MAX)
        return dw_fail(err, DW_E_LIMIT, "text of %zu bytes to tokenize, at most %" PRIu64 " are taken", length,
                       DW_TEXT_BYTES_MAX);
    tokenizing t = {.vocab = vocab,
                    .text = {text, NULL, length},
                    .place = place,
                    .parse_special = parse_special,
                    .tokens = tokens,
                    .capacity = capacity};
    size_t stack_bytes = 0;
    dw_os_thread *thread = NULL;
    dw_status status = dw_vocab_wait(vocab, err);
    if (status == DW_OK) status = prepare_text(vocab, place, parse_special, &t.text, err);
    if (status == DW_OK)
        status = dw_vocab_cost_check(&vocab->cost, t.text.text, t.text.length, parse_special, &stack_bytes, err);
    if (status != DW_OK) goto out;
    if (stack_bytes <= own_stack_bytes) {
        run_tokenizer(&t);
    } else {
        status = dw_os_thread_create("tokenizer", stack_bytes, run_tokenizer, &t, &thread, err);
        if (status != DW_OK) goto out;
        dw_os_thread_join(thread);
    }
    *n = t.n;
    status = t.status;
    if (status != DW_OK && err) *err = t.error;
out:
    free(t.text.owned);
    return status;
}

/* --- tokens to text ---------------------------------------------------------------------------------------------- */

dw_status dw_vocab_piece(dw_vocab *vocab, int32_t token, bool special, char *out, size_t capacity, size_t *n) {
    *n = 0;
    dw_status status = dw_vocab_wait(vocab, NULL);
    if (status != DW_OK) return status;
    if (token < 0 || (uint32_t)token >= vocab->facts.n_tokens) return DW_E_RANGE;
    return dw_llama_piece(vocab->llama, token, special, out, capacity, n);
}

dw_status dw_vocab_detokenize(dw_vocab *vocab, const int32_t *tokens, size_t n_tokens, bool special, char *out,
                              size_t capacity, size_t *n, dw_error *err) {
    *n = 0;
    dw_status status = dw_vocab_wait(vocab, err);
    if (status != DW_OK) return status;
    size_t needed = 0;
    bool is_full = false;
    for (size_t i = 0; i < n_tokens; i++) {
        size_t size;
        /* Once it is full only lengths are asked for. */
        status = dw_vocab_piece(vocab, tokens[i], special, is_full ? NULL : out + needed,
                                is_full ? 0 : capacity - needed, &size);
        if (status == DW_E_RANGE)
            return dw_fail(err, status, "token %d is not in the vocabulary of %u", tokens[i], vocab->facts.n_tokens);
        if (status != DW_OK && status != DW_E_FULL) return dw_fail(err, status, "token %d has no text", tokens[i]);
        is_full = is_full || status == DW_E_FULL;
        needed += size;
    }
    *n = needed;
    return is_full ? dw_fail(err, DW_E_FULL, "the text has %zu bytes, there is room for %zu", needed, capacity) : DW_OK;
}

/* --- the end of a log -------------------------------------------------------------------------------------------- */

enum { CHARACTER_TOKENS = 4 }; /* a character has four bytes at most, so four tokens */

static bool is_whole(const char *text, size_t length) {
    for (size_t at = 0; at < length;) {
        uint32_t point;
        size_t size = dw_utf8_step(text + at, length - at, &point);
        if (point == DW_UTF8_REPLACEMENT && (size != 3 || memcmp(text + at, "\xef\xbf\xbd", 3) != 0)) return false;
        at += size;
    }
    return true;
}

/* Whether the pieces of the tokens are this text: a vocabulary need not have tokens for everything. */
static bool says(dw_vocab *vocab, const int32_t *tokens, size_t n, const char *text, size_t length) {
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        char piece[DW_VOCAB_TOKEN_BYTES_MAX];
        size_t size = 0;
        if (dw_vocab_piece(vocab, tokens[i], false, piece, sizeof piece, &size) != DW_OK || size > length - at)
            return false;
        if (memcmp(piece, text + at, size) != 0) return false;
        at += size;
    }
    return at == length;
}

dw_status dw_vocab_cut(dw_vocab *vocab, const int32_t *tokens, size_t n_tokens, size_t bytes, size_t *n_stay,
                       int32_t *out, size_t capacity, size_t *n, dw_error *err) {
    char text[DW_VOCAB_TOKEN_BYTES_MAX * CHARACTER_TOKENS];
    *n = 0;
    *n_stay = n_tokens - 1;
    /* The part alone, or with the tokens before it that share a character with it. */
    for (size_t back = 1; back <= CHARACTER_TOKENS && back <= n_tokens; back++) {
        size_t length = 0, last = 0;
        dw_status status =
            dw_vocab_detokenize(vocab, tokens + n_tokens - back, back - 1, false, text, sizeof text, &length, err);
        if (status == DW_OK)
            status = dw_vocab_piece(vocab, tokens[n_tokens - 1], false, text + length, sizeof text - length, &last);
        if (status != DW_OK) return status == DW_E_FULL ? DW_OK : status;
        if (last == 0 || bytes == 0) return DW_OK;
        length = dw_utf8_settled(text, length + (bytes < last ? bytes : last));
        if (!is_whole(text, length)) continue;
        status = dw_vocab_tokenize(vocab, text, length, DW_TEXT_GOES_ON, false, out, capacity, n, err);
        if (status == DW_OK && says(vocab, out, *n, text, length)) *n_stay = n_tokens - back;
        else *n = 0;
        return status == DW_E_FULL ? DW_OK : status;
    }
    return DW_OK;
}

size_t dw_vocab_open_end(dw_vocab *vocab, const int32_t *tokens, size_t n_tokens, char out[3]) {
    char text[DW_VOCAB_TOKEN_BYTES_MAX * CHARACTER_TOKENS];
    size_t looked_at = n_tokens < CHARACTER_TOKENS - 1 ? n_tokens : CHARACTER_TOKENS - 1, length = 0;
    if (dw_vocab_detokenize(vocab, tokens + n_tokens - looked_at, looked_at, false, text, sizeof text, &length, NULL) !=
        DW_OK)
        return 0;
    size_t whole = dw_utf8_settled(text, length);
    memcpy(out, text + whole, length - whole);
    return length - whole;
}

/* --- single tokens ----------------------------------------------------------------------------------------------- */

static bool has_flag(dw_vocab *vocab, int32_t token, unsigned flag) {
    return dw_vocab_wait(vocab, NULL) == DW_OK && token >= 0 && (uint32_t)token < vocab->facts.n_tokens &&
           (vocab->flags[token] & flag) != 0;
}

bool dw_vocab_is_end(dw_vocab *vocab, int32_t token) { return has_flag(vocab, token, DW_LLAMA_TOKEN_END); }
bool dw_vocab_is_control(dw_vocab *vocab, int32_t token) { return has_flag(vocab, token, DW_LLAMA_TOKEN_CONTROL); }

int32_t dw_vocab_bos(dw_vocab *vocab) { return dw_vocab_wait(vocab, NULL) == DW_OK ? vocab->made.bos : -1; }
int32_t dw_vocab_eos(dw_vocab *vocab) { return dw_vocab_wait(vocab, NULL) == DW_OK ? vocab->made.eos : -1; }
uint32_t dw_vocab_size(dw_vocab *vocab) { return vocab->facts.n_tokens; }
