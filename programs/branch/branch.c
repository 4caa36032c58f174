/* branch.c: thinks in several directions at once and keeps the likeliest.
 *
 * The prompt is evaluated once. Its session is then forked, one branch for each of the n likeliest next tokens, which costs maps and
 * no copies. From there every branch goes on with its own likeliest token; one step of all branches is one call of the host,
 * so they can share the device's work. The branch with the highest log-probability is kept, its session too, and the others are closed.
 *
 * A message is "[n=4] [tokens=32] PROMPT". Without a prompt, it goes on from the branch that was kept.
 */
#include <stdlib.h>
#include <string.h>

#include "dw.h"

enum { BRANCHES_MAX = 16, STEPS_MAX = 256, PROMPT_TOKENS_MAX = 4096, PROMPT_BYTES_MAX = 16384, TEXT_BYTES_MAX = 8192 };

typedef struct branch {
    dw_session session;
    int32_t tokens[STEPS_MAX];
    uint32_t n_tokens;
    double logprob;       /* of all its tokens together */
    dw_scored_token next; /* its likeliest next token, from the step before */
    bool ended;           /* the model ended the text */
} branch;

static dw_session kept; /* what the next message may go on from */
static branch branches[BRANCHES_MAX];
static uint32_t n_branches;
static char text[TEXT_BYTES_MAX];

static int32_t give_up(const char *what, int32_t status) {
    dw_log(DW_LOG_ERROR, "%s: %s", what, dw_status_text(status));
    return status;
}

typedef struct settings { uint32_t n, n_steps; const char *prompt; } settings;

/* Reads "name=number " from the beginning of *at; true when it was there. */
static bool read_number(const char **at, const char *name, uint32_t max, uint32_t *out) {
    size_t length = strlen(name);
    if (strncmp(*at, name, length) != 0 || (*at)[length] != '=') return false;
    char *end;
    unsigned long number = strtoul(*at + length + 1, &end, 10);
    if (*end && *end != ' ') return false;
    *out = number < 1 ? 1 : number > max ? max : (uint32_t)number;
    *at = end + strspn(end, " ");
    return true;
}

static settings parse(const char *message) {
    settings s = {.n = 4, .n_steps = 32, .prompt = message};
    while (read_number(&s.prompt, "n", BRANCHES_MAX, &s.n) || read_number(&s.prompt, "tokens", STEPS_MAX, &s.n_steps)) {
    }
    return s;
}

/* A new session, and the prompt's tokens for it. */
static int32_t open_prompt(const char *prompt, int32_t *tokens, uint32_t *n_tokens) {
    dw_session_close(&kept); /* whatever became of it: it is not needed any more */
    int32_t status = dw_session_open(NULL, 1, 0, &kept);
    if (status == DW_OK) {
        status = dw_tokenize(&kept, prompt, (uint32_t)strlen(prompt), DW_FLAG_SPECIAL, tokens, PROMPT_TOKENS_MAX, n_tokens);
    }
    return status;
}

/* Takes the last token off the kept session, to be evaluated once more: what came out of it then is not stored anywhere. */
static int32_t take_last(int32_t *token, uint32_t *n_tokens) {
    uint32_t length = 0;
    int32_t status = dw_session_length(&kept, &length, NULL);
    if (status == DW_OK) status = dw_session_tokens(&kept, length - 1, token, 1, n_tokens);
    return status == DW_OK ? dw_session_rewind(&kept, length - 1) : status;
}

/* Evaluates the prompt, or goes on from what was kept, and gives the n likeliest tokens after it. */
static int32_t begin(const settings *s, dw_scored_token *top) {
    static int32_t tokens[PROMPT_TOKENS_MAX];
    uint32_t n_tokens = 0;
    int32_t status = *s->prompt ? open_prompt(s->prompt, tokens, &n_tokens) : take_last(tokens, &n_tokens);
    if (status < 0) return give_up("cannot begin", status);
    dw_row row = dw_row_last();
    dw_row_top(&row, top, s->n);
    status = dw_forward(&kept, tokens, n_tokens, &row, 1);
    return status < 0 ? give_up("cannot evaluate the prompt", status) : DW_OK;
}

static int32_t fork_branches(uint32_t n, const dw_scored_token *top) {
    for (n_branches = 0; n_branches < n; n_branches++) {
        branch *b = &branches[n_branches];
        *b = (branch){.next = top[n_branches]};
        int32_t status = dw_session_fork(&kept, &b->session);
        if (status < 0) return give_up("cannot fork", status);
    }
    return DW_OK;
}

/* Every branch takes its next token, and all are evaluated in one call. `live` = how many still go on; 0: nothing was done. */
static int32_t step(int32_t eos, uint32_t *live) {
    static dw_request requests[BRANCHES_MAX];
    static dw_completion completions[BRANCHES_MAX];
    static dw_row rows[BRANCHES_MAX];
    uint32_t n = 0;
    for (uint32_t i = 0; i < n_branches; i++) {
        branch *b = &branches[i];
        if (b->ended) continue;
        b->logprob += (double)b->next.logprob;
        b->ended = b->next.token == eos;
        if (b->ended) continue; /* an end has its probability, but no text */
        b->tokens[b->n_tokens] = b->next.token;
        rows[n] = dw_row_last();
        dw_row_top(&rows[n], &b->next, 1);
        requests[n] = dw_forward_request(&b->session, &b->tokens[b->n_tokens], 1, &rows[n], 1);
        b->n_tokens++;
        n++;
    }
    *live = n;
    int32_t status = dw_call_all(requests, n, completions);
    return status < 0 ? give_up("cannot step the branches", status) : DW_OK;
}

/* Index of the likeliest. A branch that ended early has fewer factors below one, so what is compared is the mean per token. */
static uint32_t likeliest(void) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < n_branches; i++) {
        const branch *a = &branches[best], *b = &branches[i];
        if (b->logprob / (b->n_tokens + b->ended) > a->logprob / (a->n_tokens + a->ended)) best = i;
    }
    return best;
}

/* The branch's text, in `text`. A line break would break the table. */
static int32_t write_text(const branch *b, bool one_line) {
    int32_t status = dw_detokenize(&kept, b->tokens, b->n_tokens, 0, text, sizeof text, NULL);
    if (status < 0) return give_up("cannot write the text", status);
    for (char *c = text; one_line && *c; c++) {
        if ((unsigned char)*c < ' ') *c = ' ';
    }
    return DW_OK;
}

static int32_t report(uint32_t best) {
    int32_t status = write_text(&branches[best], false);
    if (status == DW_OK) status = dw_reply_text(text);
    if (status == DW_OK) status = dw_reply_text("\n\n  branch   logprob  tokens  begins with\n");
    for (uint32_t i = 0; status == DW_OK && i < n_branches; i++) {
        const branch *b = &branches[i];
        status = write_text(b, true);
        if (status == DW_OK) {
            status = dw_replyf("%c %6u  %8.3f  %6u  %.48s\n", i == best ? '*' : ' ', i + 1, b->logprob, b->n_tokens, text);
        }
    }
    return status;
}

/* The winner's session becomes the one to go on from. */
static int32_t keep(uint32_t best) {
    dw_session winner = branches[best].session;
    for (uint32_t i = 0; i < n_branches; i++) {
        int32_t status = i == best ? dw_session_close(&kept) : dw_session_close(&branches[i].session);
        if (status < 0) return give_up("cannot close a session", status);
    }
    kept = winner;
    return DW_OK;
}

int32_t dw_receive(void) {
    static char message[PROMPT_BYTES_MAX];
    uint32_t size = 0;
    int32_t status = dw_message(message, sizeof message, &size);
    if (status == DW_E_FULL)
        dw_log(DW_LOG_ERROR, "That message has %u bytes; at most %d are taken.", size, PROMPT_BYTES_MAX - 1);
    if (status < 0) return give_up("cannot read the message", status);
    settings s = parse(message);
    if (!*s.prompt && kept.handle == 0) return dw_reply_text("Give me a beginning, for example: n=4 tokens=32 Once upon a time");

    dw_scored_token top[BRANCHES_MAX];
    int32_t eos = -1;
    status = begin(&s, top);
    if (status == DW_OK) status = dw_special_tokens(&kept, NULL, &eos);
    if (status == DW_OK) status = fork_branches(s.n, top);
    uint32_t live = s.n;
    for (uint32_t i = 0; status == DW_OK && i < s.n_steps && live > 0 && !dw_interrupted(); i++) status = step(eos, &live);
    if (status < 0) return status;
    uint32_t best = likeliest();
    status = report(best);
    return status < 0 ? status : keep(best);
}
