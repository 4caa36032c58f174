/* chat.c: a chat agent for a base language model.
 *
 * A base model only continues text. So the agent shows it a short conversation (the preface), appends the user's line, and lets it write
 * Driftwood's next one, up to the line's end. Everything that the agent knows is in its own memory: the transcript, once as tokens and once
 * as text, where each exchange begins, and its counters. Each turn makes the session's log equal to the transcript; the part that
 * was there already is not evaluated again.
 *
 * A message is a line for the agent, or a command:
 *   /stats            turns, tokens and bytes so far
 *   /text             the transcript
 *   /reset            forgets the conversation
 *   /seed N           starts the random numbers anew from N
 *   /temperature X    0 = always the likeliest token; higher = livelier
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dw.h"

static const char preface[] =
    "User: Hello! What can you do?\n"
    "Driftwood: Hello! I can answer questions about the world, give advice, and tell little stories.\n"
    "User: What is the capital of France?\n"
    "Driftwood: The capital of France is Paris. It lies on the river Seine and is known for its museums.\n"
    "User: How do I boil an egg?\n"
    "Driftwood: Put the egg into boiling water and wait for eight minutes. Then cool it under cold water and peel it.\n"
    "User: What do you know about bees?\n"
    "Driftwood: Bees are insects that visit flowers to collect nectar. They live in large colonies and make honey.\n"
    "User: Tell me a short story about a fox.\n"
    "Driftwood: A young fox lost its way in the snow. It followed the light of the moon until it found its mother.\n"
    "User: Which metal is liquid at room temperature?\n"
    "Driftwood: Mercury is the metal that is liquid at room temperature.";

/* A real user's turn ends at the end of its line, and so does Driftwood's. */
static const char *const stops[] = {"\n", "User:"};

enum {
    LINE_BYTES_MAX = 4096,
    ANSWER_TOKENS_MAX = 160,
    ANSWER_BYTES_MAX = 8192,
    TOKENS_MAX = 16384,      /* of the transcript; a smaller context is obeyed */
    TEXT_BYTES_MAX = 131072,
    EXCHANGES_MAX = 1024
};

/* One exchange is the user's line and the answer; these are where it begins. */
typedef struct exchange { uint32_t token, byte; } exchange;

static struct { uint64_t seed; dw_sampling_options sampling; } settings = {1, {.temperature = 0.4f, .top_p = 0.95f, .top_k = 40}};

static struct {
    dw_session session;
    int32_t tokens[TOKENS_MAX]; /* preface and exchanges */
    uint32_t n_tokens, n_preface;
    char text[TEXT_BYTES_MAX];  /* exchanges only */
    uint32_t n_bytes;
    exchange exchanges[EXCHANGES_MAX];
    uint32_t n_exchanges;
    struct { uint64_t turns, tokens_read, tokens_made, tokens_reused, bytes_read, bytes_made, interrupted, forgotten; } count;
} chat;

/* Logs what went wrong and hands on the status; the runtime then undoes the turn. */
static int32_t give_up(const char *what, int32_t status) {
    dw_log(DW_LOG_ERROR, "%s: %s", what, dw_status_text(status));
    return status;
}

/* --- the transcript ------------------------------------------------------------------------------------------ */

static int32_t append_tokens(const char *text, uint16_t flags) {
    uint32_t n = 0;
    int32_t status = dw_tokenize(&chat.session, text, (uint32_t)strlen(text), flags, chat.tokens + chat.n_tokens,
                                 TOKENS_MAX - chat.n_tokens, &n);
    if (status == DW_OK) chat.n_tokens += n;
    return status;
}

static void append_text(const char *text) {
    size_t n = strlen(text);
    memcpy(chat.text + chat.n_bytes, text, n);
    chat.n_bytes += (uint32_t)n;
}

/* Opens the session, and writes the preface where it is not written yet. */
static int32_t begin(void) {
    int32_t status = DW_OK;
    if (chat.session.handle == 0) status = dw_session_open(NULL, settings.seed, 0, &chat.session);
    if (status == DW_OK && chat.n_preface == 0) {
        status = append_tokens(preface, DW_FLAG_SPECIAL);
        chat.n_preface = chat.n_tokens;
    }
    return status;
}

/* Forgets the oldest `n` exchanges. What stays has moved forward, so the next sync evaluates it again: forgetting many at once and seldom
 * is cheaper than one at each turn. */
static void forget(uint32_t n) {
    exchange end = {chat.n_tokens, chat.n_bytes};
    exchange keep = n < chat.n_exchanges ? chat.exchanges[n] : end;
    exchange gone = {keep.token - chat.n_preface, keep.byte};
    memmove(chat.tokens + chat.n_preface, chat.tokens + keep.token, (end.token - keep.token) * sizeof chat.tokens[0]);
    memmove(chat.text, chat.text + keep.byte, end.byte - keep.byte);
    chat.n_tokens -= gone.token;
    chat.n_bytes -= gone.byte;
    chat.n_exchanges -= n;
    for (uint32_t i = 0; i < chat.n_exchanges; i++) {
        chat.exchanges[i].token = chat.exchanges[i + n].token - gone.token;
        chat.exchanges[i].byte = chat.exchanges[i + n].byte - gone.byte;
    }
    chat.count.forgotten += n;
}

static uint32_t tokens_limit(void) {
    return chat.session.context_tokens < TOKENS_MAX ? chat.session.context_tokens : TOKENS_MAX;
}

/* Makes sure that `n_tokens` and `n_bytes` more fit, by forgetting the older half of the conversation as often as needed. DW_E_FULL: they
 * would not fit beside the preface alone; nothing is forgotten then. */
static int32_t make_room(uint32_t n_tokens, uint32_t n_bytes) {
    uint32_t limit = tokens_limit();
    if (chat.n_preface + n_tokens > limit || n_bytes > TEXT_BYTES_MAX) return DW_E_FULL;
    while (chat.n_tokens + n_tokens > limit || chat.n_bytes + n_bytes > TEXT_BYTES_MAX || chat.n_exchanges == EXCHANGES_MAX) {
        forget((chat.n_exchanges + 1) / 2);
    }
    return DW_OK;
}

/* Says which part does not fit, and gives the turn up: a line that was not taken is no turn. */
static int32_t no_room(uint32_t n_line) {
    uint32_t limit = tokens_limit(), fixed = chat.n_preface + ANSWER_TOKENS_MAX;
    if (fixed >= limit) {
        dw_log(DW_LOG_ERROR,
               "The context of %u tokens has no room for a line: the preface has %u, and an answer may have %u.",
               limit, chat.n_preface, (uint32_t)ANSWER_TOKENS_MAX);
    } else {
        dw_log(DW_LOG_ERROR,
               "That line has %u tokens. The context of %u has room for %u, beside the preface (%u) and an answer "
               "(%u).", n_line, limit, limit - fixed, chat.n_preface, (uint32_t)ANSWER_TOKENS_MAX);
    }
    return DW_E_FULL;
}

/* The user's line as the model is to see it. It may not contain line ends: they would let a user speak for Driftwood. */
static int32_t append_line(const char *line) {
    static char cue[LINE_BYTES_MAX + 64];
    size_t head = strlen("\nUser: ");
    uint32_t size = (uint32_t)snprintf(cue, sizeof cue, "\nUser: %s\nDriftwood:", line);
    for (size_t i = head; i < head + strlen(line); i++) {
        if ((unsigned char)cue[i] < ' ') cue[i] = ' ';
    }
    uint32_t n_cue = 0;
    int32_t status = dw_tokenize(&chat.session, cue, size, 0, NULL, 0, &n_cue); /* counts only: nothing fits into nothing */
    if (status < 0 && status != DW_E_FULL) return status;
    status = make_room(n_cue + ANSWER_TOKENS_MAX, size + ANSWER_BYTES_MAX);
    if (status < 0) return status == DW_E_FULL ? no_room(n_cue) : status;
    chat.exchanges[chat.n_exchanges++] = (exchange){chat.n_tokens, chat.n_bytes};
    append_text(cue);
    return append_tokens(cue, 0);
}

/* --- turns --------------------------------------------------------------------------------------------------- */

/* Lets the model write the answer, streams it, and takes it into the transcript. Interrupted, it keeps what there is. */
static int32_t answer(char *text, uint32_t capacity) {
    uint32_t reused = 0;
    int32_t status = dw_session_sync(&chat.session, chat.tokens, chat.n_tokens, &reused);
    if (status < 0) return give_up("cannot hand the transcript to the model", status);
    dw_generation generation = dw_generation_defaults();
    generation.n_max = ANSWER_TOKENS_MAX;
    generation.sampling = settings.sampling;
    generation.stops = stops;
    generation.n_stops = sizeof stops / sizeof stops[0];
    generation.emit = true;
    generation.text = text;
    generation.text_capacity = capacity;
    status = dw_generate(&chat.session, &generation);
    if (status < 0) return give_up("the model cannot answer", status);
    /* The log is the truth about the tokens: a text can be written in several ways. */
    uint32_t made = 0;
    status = dw_session_tokens(&chat.session, chat.n_tokens, chat.tokens + chat.n_tokens, TOKENS_MAX - chat.n_tokens, &made);
    if (status < 0) return give_up("cannot read the answer's tokens", status);
    append_text(text);
    chat.count.tokens_read += chat.n_tokens - reused;
    chat.count.tokens_reused += reused;
    chat.count.tokens_made += generation.n_made;
    chat.count.bytes_made += generation.text_bytes;
    chat.n_tokens += made;
    if (dw_interrupted()) chat.count.interrupted++;
    return DW_OK;
}

static int32_t talk(const char *line, uint32_t size) {
    static char text[ANSWER_BYTES_MAX];
    int32_t status = begin();
    if (status < 0) return give_up("cannot open a session", status);
    status = append_line(line);
    if (status == DW_E_FULL) return status; /* it said why */
    if (status < 0) return give_up("cannot take the line", status);
    status = answer(text, sizeof text);
    if (status < 0) return status;
    chat.count.turns++;
    chat.count.bytes_read += size;
    const char *first = text + strspn(text, " ");
    return dw_reply_text(*first ? first : "...");
}

static int32_t show_stats(void) {
    return dw_replyf("turns %llu, tokens read %llu, reused %llu, made %llu, bytes read %llu, made %llu, interrupted %llu; "
                     "transcript %u exchanges, %u tokens (preface %u), %u bytes; forgotten %llu; seed %llu, temperature %.2f",
                     (unsigned long long)chat.count.turns, (unsigned long long)chat.count.tokens_read,
                     (unsigned long long)chat.count.tokens_reused, (unsigned long long)chat.count.tokens_made,
                     (unsigned long long)chat.count.bytes_read, (unsigned long long)chat.count.bytes_made,
                     (unsigned long long)chat.count.interrupted, chat.n_exchanges, chat.n_tokens, chat.n_preface, chat.n_bytes,
                     (unsigned long long)chat.count.forgotten, (unsigned long long)settings.seed, (double)settings.sampling.temperature);
}

static int32_t set_seed(const char *number) {
    char *end;
    uint64_t seed = strtoull(number, &end, 10);
    if (end == number || *end) return dw_reply_text("Usage: /seed N, where N is a whole number.");
    /* A session takes its seed when it is opened. The new one is empty; the next turn's sync fills it from the transcript. */
    int32_t status = dw_session_close(&chat.session);
    if (status < 0) return give_up("cannot close the session", status);
    settings.seed = seed;
    return dw_replyf("Seed %llu.", (unsigned long long)seed);
}

static int32_t set_temperature(const char *number) {
    char *end;
    double temperature = strtod(number, &end);
    bool good = end != number && !*end && temperature >= 0 && temperature <= 10; /* false for NaN */
    if (!good) return dw_reply_text("Usage: /temperature X, where X is 0 to 10.");
    settings.sampling.temperature = (float)temperature;
    return dw_replyf("Temperature %.2f.", temperature);
}

/* What follows `command` in `line` if the line begins with that word, else NULL. */
static const char *after(const char *line, const char *command) {
    size_t n = strlen(command);
    if (strncmp(line, command, n) != 0 || (line[n] && line[n] != ' ')) return NULL;
    return line + n + strspn(line + n, " ");
}

int32_t dw_receive(void) {
    static char line[LINE_BYTES_MAX];
    uint32_t size = 0;
    int32_t status = dw_message(line, sizeof line, &size);
    if (status == DW_E_FULL) {
        dw_log(DW_LOG_ERROR, "That line has %u bytes; a line has at most %d.", size, LINE_BYTES_MAX - 1);
        return status;
    }
    if (status < 0) return give_up("cannot read the message", status);
    const char *rest;
    if (after(line, "/stats")) return show_stats();
    if (after(line, "/text")) return dw_reply(chat.text, chat.n_bytes);
    if (after(line, "/reset")) {
        forget(chat.n_exchanges);
        return dw_reply_text("Forgotten.");
    }
    if ((rest = after(line, "/seed"))) return set_seed(rest);
    if ((rest = after(line, "/temperature"))) return set_temperature(rest);
    if (line[0] == '/') return dw_reply_text("Commands: /stats, /text, /reset, /seed N, /temperature X.");
    return talk(line, size);
}
