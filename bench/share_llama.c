/* share_llama.c: llama.cpp's side of bench/share: N sequences that go on from the past of one. One JSON object:
 *
 *   fork_us         for all N: llama_memory_seq_cp and what it leaves to be done
 *   memory_bytes    of this process when all is done; with N = 0, of one sequence alone
 *   tokens_per_s    of all N, decoding together; they are given their tokens and draw none
 *
 * Two kinds: `copied` (a stream of cells for each sequence: seq_cp copies the rows) and `shared` (one stream, kv_unified: seq_cp only marks
 * them, and attention looks at all cells). A copy is done by the next evaluation. So where there are copies, fork_us is seq_cp, plus one
 * token of the parent evaluated behind it (llama-batched-bench applies them so, too), less the same without copies. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "ggml-backend.h"
#include "llama.h"
#include "memory.h"
#include "os/os.h"
#include "prompt.h"

typedef struct options {
    const char *model;
    unsigned threads, sequences, prompt_tokens, made_tokens, salt;
    bool shared, full_windows, repack;
} options;

typedef struct side {
    struct llama_model *model;
    struct llama_context *context;
    struct llama_batch batch;
    int32_t n_vocab;
    int32_t *prompt;
} side;

enum { BATCH_TOKENS = 2048, MICRO_BATCH_TOKENS = 512 /* llama.cpp's defaults */, SEQUENCES_MAX = 255 };

static _Noreturn void give_up(const char *reason) {
    fprintf(stderr, "bench_share_llama: %s\n", reason);
    exit(1);
}

static double now_us(void) { return (double)dw_os_monotonic_ns() / 1000.0; }

static void quiet(enum ggml_log_level level, const char *text, void *context) {
    (void)context;
    if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

static void open_side(const options *o, side *out) {
    /* Without devices libllama stays on the CPU, whatever graphics hardware there is. */
    static ggml_backend_dev_t none[] = {NULL};
    *out = (side){0};
    llama_log_set(quiet, NULL);
    struct llama_model_params model = llama_model_default_params();
    model.devices = none;
    model.n_gpu_layers = 0;
    model.use_extra_bufts = o->repack;
    out->model = llama_model_load_from_file(o->model, model);
    if (out->model == NULL) give_up("the model cannot be loaded");
    const struct llama_vocab *vocab = llama_model_get_vocab(out->model);
    out->n_vocab = llama_vocab_n_tokens(vocab);

    unsigned each = (o->prompt_tokens + o->made_tokens + 2 + 255) / 256 * 256;
    struct llama_context_params context = llama_context_default_params();
    context.n_seq_max = o->sequences + 1;
    /* Of one stream: the parent's cells, and those that the others add. */
    context.n_ctx = o->shared ? (each + o->sequences * o->made_tokens + 255) / 256 * 256 : each * (o->sequences + 1);
    context.kv_unified = o->shared;
    context.swa_full = o->full_windows;
    context.n_batch = BATCH_TOKENS;
    context.n_ubatch = MICRO_BATCH_TOKENS;
    context.n_threads = context.n_threads_batch = (int32_t)o->threads;
    context.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
    context.type_k = context.type_v = GGML_TYPE_F16;
    context.offload_kqv = context.op_offload = false;
    context.no_perf = true;
    out->context = llama_init_from_model(out->model, context);
    if (out->context == NULL) give_up("no context of that size");
    out->batch = llama_batch_init(BATCH_TOKENS, 0, 1);
    out->prompt = calloc(o->prompt_tokens + SEQUENCES_MAX + 2, sizeof *out->prompt);
    if (out->prompt == NULL) give_up("no memory");
    /* The tokens behind the past begin the parent's evaluations and each sequence's own text. */
    bench_prompt_make(&(bench_prompt){.n_vocab = (uint32_t)out->n_vocab, .bos = llama_vocab_bos(vocab), .own_salt = o->salt,
                                      .n_own = o->prompt_tokens + SEQUENCES_MAX + 2}, out->prompt);
}

static void close_side(side *s) {
    llama_batch_free(s->batch);
    llama_free(s->context);
    llama_model_free(s->model);
    free(s->prompt);
}

static void add(side *s, int32_t token, unsigned position, unsigned sequence, bool logits) {
    int32_t i = s->batch.n_tokens++;
    s->batch.token[i] = token;
    s->batch.pos[i] = (llama_pos)position;
    s->batch.n_seq_id[i] = 1;
    s->batch.seq_id[i][0] = (llama_seq_id)sequence;
    s->batch.logits[i] = logits;
}

static void evaluate(side *s) {
    if (llama_decode(s->context, s->batch) != 0) give_up("an evaluation failed");
    llama_synchronize(s->context);
    s->batch.n_tokens = 0;
}

static void prefill(const options *o, side *s) {
    for (unsigned i = 0; i < o->prompt_tokens; i++) {
        add(s, s->prompt[i], i, 0, i + 1 == o->prompt_tokens);
        if (s->batch.n_tokens == BATCH_TOKENS || i + 1 == o->prompt_tokens) evaluate(s);
    }
}

/* One token of the parent, forgotten again. */
static double parent_step_us(const options *o, side *s) {
    double start = now_us();
    add(s, s->prompt[o->prompt_tokens], o->prompt_tokens, 0, true);
    evaluate(s);
    double us = now_us() - start;
    if (!llama_memory_seq_rm(llama_get_memory(s->context), 0, (llama_pos)o->prompt_tokens, -1)) give_up("a token cannot be forgotten");
    return us;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double fork_us(const options *o, side *s) {
    enum { STEPS = 5 };
    double without[STEPS];
    parent_step_us(o, s); /* warms */
    for (int i = 0; i < STEPS; i++) without[i] = parent_step_us(o, s);
    qsort(without, STEPS, sizeof without[0], ascending);
    double start = now_us();
    for (unsigned i = 1; i <= o->sequences; i++) llama_memory_seq_cp(llama_get_memory(s->context), 0, (llama_seq_id)i, -1, -1);
    double marked = now_us() - start;
    if (o->shared) return marked;
    double copies = parent_step_us(o, s) - without[STEPS / 2];
    return marked + (copies > 0 ? copies : 0);
}

/* As llama-batched-bench does: tokens that are given, logits of each, nothing drawn. */
static double decode_us(const options *o, side *s, unsigned first, unsigned n) {
    double start = now_us();
    for (unsigned i = 0; i < o->made_tokens; i++) {
        for (unsigned j = 0; j < n; j++) add(s, s->prompt[o->prompt_tokens + 1 + (i + j) % (SEQUENCES_MAX + 1)], o->prompt_tokens + i, first + j, true);
        evaluate(s);
    }
    return now_us() - start;
}

static _Noreturn void usage(void) {
    fputs("usage: bench_share_llama --model PATH --threads N [--sequences N] [--prompt-tokens N] [--made-tokens N] [--salt N]\n"
          "       [--shared 0|1] [--full-windows 0|1] [--repack 0|1]\n"
          "bench/share runs it; one JSON object.\n", stderr);
    exit(2);
}

static unsigned number_of(const char *text, unsigned max) {
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    if (end == text || *end != 0 || n > max) usage();
    return (unsigned)n;
}

int main(int argc, char **argv) {
    options o = {.threads = 1, .sequences = 32, .prompt_tokens = 4000, .made_tokens = 32, .salt = 1};
    if (argc % 2 == 0) usage();
    for (int i = 1; i < argc; i += 2) {
        const char *value = argv[i + 1];
        if (strcmp(argv[i], "--model") == 0) o.model = value;
        else if (strcmp(argv[i], "--threads") == 0) o.threads = number_of(value, 256);
        else if (strcmp(argv[i], "--sequences") == 0) o.sequences = number_of(value, SEQUENCES_MAX);
        else if (strcmp(argv[i], "--prompt-tokens") == 0) o.prompt_tokens = number_of(value, 1u << 20);
        else if (strcmp(argv[i], "--made-tokens") == 0) o.made_tokens = number_of(value, 1u << 20);
        else if (strcmp(argv[i], "--salt") == 0) o.salt = number_of(value, UINT32_MAX);
        else if (strcmp(argv[i], "--shared") == 0) o.shared = number_of(value, 1) == 1;
        else if (strcmp(argv[i], "--full-windows") == 0) o.full_windows = number_of(value, 1) == 1;
        else if (strcmp(argv[i], "--repack") == 0) o.repack = number_of(value, 1) == 1;
        else usage();
    }
    if (o.model == NULL || o.threads == 0 || o.prompt_tokens == 0 || o.made_tokens == 0) usage();
    side s;
    open_side(&o, &s);
    prefill(&o, &s);
    double forks = o.sequences > 0 ? fork_us(&o, &s) : 0;
    double us = o.sequences > 0 ? decode_us(&o, &s, 1, o.sequences) : decode_us(&o, &s, 0, 1);
    double made = (double)(o.sequences > 0 ? o.sequences : 1) * o.made_tokens;
    printf("{\"fork_us\":%.1f,\"memory_bytes\":%.0f,\"tokens_per_s\":%.3f}\n", forks, bench_memory_bytes(), made / us * 1e6);
    close_side(&s);
    return 0;
}
