/* loop.c: the guest that bench/ measures with. It does what it is told (loop.h) and nothing else. */
#include "loop.h"

#include "dw.h"

static dw_session session;
static uint32_t prompt_length;
static uint8_t pages[LOOP_PAGES_MAX][LOOP_PAGE_BYTES];

/* Instead of the one there was. */
static int32_t open_session(const loop_order *order) {
    int32_t status = dw_session_close(&session);
    if (status != DW_OK) return status;
    return dw_session_open(order->head.flags & LOOP_SMALL ? "small" : NULL, order->head.seed, order->head.flags & LOOP_FAST ? DW_FLAG_FAST : 0, &session);
}

static int32_t prompt(const loop_order *order, uint32_t n_tokens) {
    prompt_length = n_tokens;
    int32_t status = open_session(order);
    return status == DW_OK ? dw_forward(&session, order->tokens, n_tokens, NULL, 0) : status;
}

/* Streams n tokens that follow on the given ones. */
static int32_t generate(const loop_order *order, uint32_t n_tokens, dw_sampling_options sampling) {
    dw_generation generation = dw_generation_defaults();
    generation.tokens = order->tokens;
    generation.n_tokens = n_tokens;
    generation.n_max = order->head.n;
    generation.sampling = sampling;
    generation.emit = true;
    generation.ignore_end = true;
    return dw_generate(&session, &generation);
}

static int32_t generate_after_prompt(const loop_order *order) {
    static int32_t made[LOOP_MADE_MAX];
    uint32_t n_made = 0;
    int32_t status = generate(order, 1, (dw_sampling_options){.temperature = 0});
    if (status == DW_OK) status = dw_session_tokens(&session, prompt_length + 1, made, LOOP_MADE_MAX, &n_made);
    return status == DW_OK ? dw_reply(made, n_made * sizeof made[0]) : status;
}

static int32_t talk(const loop_order *order, uint32_t n_tokens) {
    int32_t status = open_session(order);
    return status == DW_OK ? generate(order, n_tokens, (dw_sampling_options){LOOP_SAMPLING}) : status;
}

static int32_t forward(const loop_order *order) {
    static int32_t made[LOOP_MADE_MAX];
    int32_t status = DW_OK;
    for (uint32_t i = 0; status == DW_OK && i < order->head.n; i++) {
        dw_scored_token drawn;
        dw_row row = dw_row_last();
        dw_row_sample(&row, (dw_sampling_options){.temperature = 0}, &drawn);
        status = dw_forward(&session, i > 0 ? &made[i - 1] : order->tokens, 1, &row, 1);
        made[i] = drawn.token;
    }
    return status == DW_OK ? dw_reply(made, order->head.n * sizeof made[0]) : status;
}

static int32_t enters(uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        dw_request request = {.op = DW_OP_INTERRUPTED};
        dw_completion completion;
        int32_t got = dw_enter(&request, 1, &completion, 1, 1, -1);
        if (got != 1) return got < 0 ? got : DW_E_INTERNAL;
    }
    return DW_OK;
}

int32_t dw_receive(void) {
    static loop_order order;
    dw_completion completion;
    dw_request message = {.op = DW_OP_MESSAGE, .ptr0 = dw_address(&order), .len0 = sizeof order};
    int32_t status = dw_call(&message, &completion);
    if (status != DW_OK) return status;
    if (completion.result0 < offsetof(loop_order, tokens) || order.head.n > (order.head.work == LOOP_ENTERS ? UINT32_MAX : LOOP_MADE_MAX)) return DW_E_INVALID;
    uint32_t n_tokens = (uint32_t)((completion.result0 - offsetof(loop_order, tokens)) / sizeof order.tokens[0]);
    if (n_tokens > LOOP_TOKENS_MAX) return DW_E_INVALID;
    switch (order.head.work) {
    case LOOP_NOTHING: return DW_OK;
    case LOOP_PROMPT: return prompt(&order, n_tokens);
    case LOOP_REWIND: return dw_session_rewind(&session, prompt_length);
    case LOOP_GENERATE: return generate_after_prompt(&order);
    case LOOP_FORWARD: return forward(&order);
    case LOOP_TALK: return talk(&order, n_tokens);
    case LOOP_ENTERS: return enters(order.head.n);
    case LOOP_WRITE:
        for (uint32_t i = 0; i < order.head.n && i < LOOP_PAGES_MAX; i++) pages[i][0]++;
        return DW_OK;
    default: return DW_E_INVALID;
    }
}
