/* bits_find.c: tries what bits.h promises: products by type and width, a batch against its parts, prefill in two cuts.
 *
 * A layer of each kind shows what all do (bits_layers.c). Kernels may also go by the number of rows that attention
 * sees, so what is tried begins within the first DW_KV_STEP_ROWS rows and ends in the second ones, where the context is
 * that long.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml.h"
#include "model/model_internal.h"

enum {
    ROWS_TRIED = 1024,    /* of a weight matrix: kernels go by columns, and by rows only up to a tile */
    WIDTH_MAX = DW_BATCH_PARTS_MAX,
    PRODUCTS_TRIED = 24,
    LARGE_PRODUCT = 1 << 24, /* elements of a matrix that is tried at few widths */
    SLOTS_OPENED = DW_MODEL_OWN_SLOTS, /* the third one is left out of the batch: two runs */
    PARTS_TRIED = SLOTS_OPENED - 1,
    CHUNK_TOKENS = 2 * DW_PREFILL_CHUNK_TOKENS_MIN + 32,
    FAR_ROW = DW_KV_STEP_ROWS - CHUNK_TOKENS / 2, /* a chunk from here on reaches into the second step */
    EXPERTS_COLUMNS = 4,  /* measured: sorted by expert, from 8 columns on another kernel is taken */
};

_Static_assert((int)DW_BITS_TYPES >= (int)GGML_TYPE_COUNT, "a type has no place");

/* Knuth, MMIX */
static uint64_t random_next(uint64_t *state) {
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state;
}

/* --- products ------------------------------------------------------------------------------------------------ */

typedef struct product {
    dw_device *device;
    struct ggml_context *context;
    struct ggml_cgraph *graph;
    ggml_gallocr_t allocator;
    struct ggml_tensor *x, *y;
} product;

static void product_close(product *p) {
    dw_device_allocator_destroy(p->allocator);
    if (p->context != NULL) ggml_free(p->context);
    *p = (product){0};
}

/* The product of some rows of w with n columns. */
static bool product_open(product *p, dw_device *device, struct ggml_tensor *w, uint32_t n) {
    *p = (product){.device = device};
    size_t bytes = 16 * ggml_tensor_overhead() + ggml_graph_overhead_custom(16, false);
    p->context = ggml_init((struct ggml_init_params){.mem_size = bytes, .no_alloc = true});
    p->allocator = dw_device_allocator_create(device);
    if (p->context == NULL || p->allocator == NULL) return false;
    p->graph = ggml_new_graph_custom(p->context, 16, false);
    /* A repacked matrix is used whole. */
    bool whole = w->ne[1] <= ROWS_TRIED || !ggml_backend_buffer_is_host(w->buffer);
    int64_t rows = whole ? w->ne[1] : ROWS_TRIED - 64 + w->ne[1] % 64;
    bool all = rows == w->ne[1] && w->ne[2] == 1; /* of experts the first one stands for all */
    struct ggml_tensor *some = all ? w : ggml_view_2d(p->context, w, w->ne[0], rows, w->nb[1], 0);
    p->x = ggml_new_tensor_2d(p->context, GGML_TYPE_F32, w->ne[0], n);
    ggml_set_input(p->x);
    p->y = ggml_mul_mat(p->context, some, p->x);
    ggml_set_output(p->y);
    ggml_build_forward_expand(p->graph, p->y);
    return dw_device_supports(device, p->graph, NULL) == DW_OK &&
           dw_device_allocator_place(p->allocator, p->graph, NULL) == DW_OK;
}

static bool product_run(product *p, const float *x, float *y) {
    return dw_tensor_write(p->device, p->x, x, 0, ggml_nbytes(p->x)) == DW_OK &&
           dw_device_compute(p->device, p->graph, NULL) == DW_OK &&
           dw_tensor_read(p->device, p->y, y, 0, ggml_nbytes(p->y)) == DW_OK;
}

/* Whether n columns at once give what each gives alone ([rows, WIDTH_MAX] in `alone`). */
static bool width_keeps(dw_device *device, struct ggml_tensor *w, uint32_t n, const float *x, const float *alone,
                        float *y) {
    product p;
    bool keeps = product_open(&p, device, w, n) && product_run(&p, x, y) && memcmp(y, alone, ggml_nbytes(p.y)) == 0;
    product_close(&p);
    return keeps;
}

/* False also when there is no memory to find out. */
static bool every_width_keeps(dw_device *device, struct ggml_tensor *w) {
    static const uint32_t all_widths[] = {2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 48, 64};
    static const uint32_t few_widths[] = {2, 5, 8, 33};
    bool whole = w->ne[1] <= ROWS_TRIED || !ggml_backend_buffer_is_host(w->buffer);
    size_t input = (size_t)w->ne[0], rows_max = (size_t)(whole ? w->ne[1] : ROWS_TRIED);
    float *x = malloc(input * WIDTH_MAX * sizeof *x), *alone = malloc(rows_max * WIDTH_MAX * sizeof *alone);
    float *y = malloc(rows_max * WIDTH_MAX * sizeof *y);
    bool large = input * rows_max > LARGE_PRODUCT;
    const uint32_t *widths = large ? few_widths : all_widths;
    size_t n_widths = large ? sizeof few_widths / sizeof few_widths[0] : sizeof all_widths / sizeof all_widths[0];
    size_t n_columns = large ? 33 : WIDTH_MAX;
    product one = {0};
    uint64_t state = 1;
    bool keeps = x != NULL && alone != NULL && y != NULL && product_open(&one, device, w, 1);
    for (size_t i = 0; keeps && i < input * WIDTH_MAX; i++) {
        x[i] = (float)(int32_t)(random_next(&state) >> 32) / (float)(1 << 30);
    }
    for (size_t i = 0; keeps && i < n_columns; i++) {
        keeps = product_run(&one, x + i * input, alone + i * (size_t)one.y->ne[0]);
    }
    product_close(&one);
    for (size_t i = 0; keeps && i < n_widths; i++) keeps = width_keeps(device, w, widths[i], x, alone, y);
    free(x);
    free(alone);
    free(y);
    return keeps;
}

typedef struct tried_product { enum ggml_type type; int64_t input, output; } tried_product;

/* Each kind of matrix of the model, up to a number of them. A type is wide when all of its matrices are. */
static void try_products(dw_model *model) {
    tried_product tried[PRODUCTS_TRIED];
    bool seen[GGML_TYPE_COUNT] = {false};
    size_t n_tried = 0;
    struct ggml_context *all = model->weights.context;
    for (struct ggml_tensor *w = ggml_get_first_tensor(all); w != NULL; w = ggml_get_next_tensor(all, w)) {
        /* no view of these can be used */
        bool repacked_experts = w->ne[2] != 1 && !ggml_backend_buffer_is_host(w->buffer);
        if (w->ne[1] == 1 || w->data == NULL || repacked_experts) continue;
        tried_product kind = {.type = w->type, .input = w->ne[0], .output = w->ne[1]};
        bool known = seen[w->type] && !model->bits.wide[w->type];
        for (size_t i = 0; i < n_tried && !known; i++) {
            known = tried[i].type == kind.type && tried[i].input == kind.input && tried[i].output == kind.output;
        }
        if (known) continue;
        if (n_tried == PRODUCTS_TRIED) {
            model->bits.wide[w->type] = false; /* narrow is right for every type, only slower for some */
            seen[w->type] = true;
            continue;
        }
        tried[n_tried++] = kind;
        bool wide = every_width_keeps(model->device, w);
        model->bits.wide[w->type] = wide && (!seen[w->type] || model->bits.wide[w->type]);
        seen[w->type] = true;
    }
}

/* --- batches and chunks -------------------------------------------------------------------------------------- */

typedef struct trial {
    dw_model *model;
    dw_kv_slot slots[SLOTS_OPENED];
    uint64_t bytes[SLOTS_OPENED]; /* of the slots, in the pool's text_bytes */
    uint32_t n_slots;
    uint16_t layers[DW_GRAPH_CHOSEN_MAX];
    uint32_t n_layers;
    uint32_t begin;      /* the row where chunks begin: FAR_ROW, or 0 in a short context */
    dw_graph_part parts[PARTS_TRIED];
    int32_t tokens[CHUNK_TOKENS];
    float *hidden[2];    /* [PARTS_TRIED, n_embedding]: alone, together */
    float *logits[2];    /* [PARTS_TRIED, n_vocab] */
    uint8_t *rows[2];    /* of one area, ROWS_OF_TRIAL of them */
} trial;

enum { ROWS_OF_TRIAL = 2 * DW_KV_STEP_ROWS };

static dw_status trial_open(trial *t, dw_model *model, dw_error *err) {
    *t = (trial){.model = model, .begin = model->info.context_tokens > DW_KV_STEP_ROWS ? FAR_ROW : 0};
    t->n_layers = dw_bits_layers(model, t->layers);
    uint64_t state = 7;
    for (size_t i = 0; i < CHUNK_TOKENS; i++) {
        t->tokens[i] = (int32_t)((random_next(&state) >> 33) % model->info.n_vocab);
    }
    for (int i = 0; i < 2; i++) {
        t->hidden[i] = malloc((size_t)PARTS_TRIED * model->info.n_embedding * sizeof(float));
        t->logits[i] = malloc((size_t)PARTS_TRIED * model->info.n_vocab * sizeof(float));
        t->rows[i] = malloc((size_t)ROWS_OF_TRIAL * model->info.kv_row_bytes);
        if (t->hidden[i] == NULL || t->logits[i] == NULL || t->rows[i] == NULL) {
            return dw_fail(err, DW_E_NO_MEMORY, "no memory to try batches");
        }
    }
    dw_status status = DW_OK;
    dw_os_mutex_lock(model->pool->lock);
    while (status == DW_OK && t->n_slots < SLOTS_OPENED) {
        status = dw_kv_open(model->pool->arena, &t->slots[t->n_slots], err);
        if (status == DW_OK) t->n_slots++;
    }
    dw_os_mutex_unlock(model->pool->lock);
    return status;
}

static void trial_close(trial *t) {
    dw_os_mutex_lock(t->model->pool->lock);
    while (t->n_slots > 0) {
        uint32_t slot = --t->n_slots;
        dw_kv_close(t->model->pool->arena, t->slots[slot]);
        dw_session_pool_set_aside_locked(t->model->pool, t->slots[slot], &t->bytes[slot]);
    }
    dw_os_mutex_unlock(t->model->pool->lock);
    for (int i = 0; i < 2; i++) {
        free(t->hidden[i]);
        free(t->logits[i]);
        free(t->rows[i]);
    }
}

static dw_status trial_bind(trial *t, uint32_t slot, dw_graph_part *part, dw_error *err) {
    uint32_t rows = (uint32_t)dw_min_u64(t->model->pool->options.kv.context_tokens, ROWS_OF_TRIAL);
    dw_os_mutex_lock(t->model->pool->lock);
    dw_status status = dw_kv_writable(t->model->pool->arena, t->slots[slot], rows, &part->binding.buffer,
                                      &part->binding.offset, err);
    dw_session_pool_set_aside_locked(t->model->pool, t->slots[slot], &t->bytes[slot]);
    dw_os_mutex_unlock(t->model->pool->lock);
    return status;
}

static uint32_t area_of(const trial *t, uint32_t i) { return 2u * t->layers[i / 2] + i % 2; }

static dw_status copy_rows(const trial *t, uint32_t from, uint32_t first, uint32_t to, uint32_t to_first, uint32_t n,
                           dw_error *err) {
    dw_kv_arena *arena = t->model->pool->arena;
    dw_status status = DW_OK;
    for (uint32_t i = 0; i < 2 * t->n_layers && status == DW_OK; i++) {
        status = dw_kv_read(arena, t->slots[from], area_of(t, i), first, n, t->rows[0], err);
        if (status == DW_OK) status = dw_kv_write(arena, t->slots[to], area_of(t, i), to_first, n, t->rows[0], err);
    }
    return status;
}

/* All slots have the rows of slot 0 in the first step. */
static dw_status copy_first_step(trial *t, dw_error *err) {
    dw_status status = DW_OK;
    for (uint32_t slot = 1; status == DW_OK && t->begin > 0 && slot < t->n_slots; slot++) {
        dw_graph_part part;
        status = trial_bind(t, slot, &part, err);
        if (status == DW_OK) status = copy_rows(t, 0, 0, slot, 0, DW_KV_STEP_ROWS, err);
    }
    return status;
}

/* Rows of the first step, for what comes behind them. Some are evaluated, the others are copies. */
static dw_status fill_first_step(trial *t, dw_error *err) {
    dw_graph_part part = {.tokens = t->tokens, .n_tokens = CHUNK_TOKENS};
    if (t->begin == 0) return DW_OK;
    dw_status status = trial_bind(t, 0, &part, err);
    dw_graph_batch batch = {.parts = &part, .n_parts = 1, .layers = t->layers, .n_layers = t->n_layers};
    if (status == DW_OK) status = dw_decoder_evaluate(t->model->decoder, &batch, NULL, err);
    if (status != DW_OK) return status;
    status = copy_rows(t, 0, 0, 0, CHUNK_TOKENS, DW_KV_STEP_ROWS - CHUNK_TOKENS, err);
    return status == DW_OK ? copy_first_step(t, err) : status;
}

/* Two tokens of each part, one after the other, all parts at once or one by one; the hidden rows of the second ones,
 * and logits. The parts see different numbers of rows. */
static dw_status evaluate_parts(trial *t, uint32_t n_parts, bool together, dw_error *err) {
    const uint32_t far = t->begin == 0 ? 0 : DW_KV_STEP_ROWS, begins[PARTS_TRIED] = {far, 0, far, t->begin};
    static const uint32_t columns[PARTS_TRIED] = {0, 1, 2, 3};
    uint32_t width = t->model->info.n_embedding, n_vocab = t->model->info.n_vocab, at_once = together ? n_parts : 1;
    float *hidden = t->hidden[together], *logits = t->logits[together];
    dw_status status = DW_OK;
    for (uint32_t position = 0; status == DW_OK && position < 2; position++) {
        for (uint32_t p = 0; p < n_parts; p++) {
            t->parts[p].tokens = &t->tokens[2 * p + position];
            t->parts[p].n_tokens = 1;
            t->parts[p].first_position = begins[p] + position;
        }
        for (uint32_t p = 0; status == DW_OK && p < n_parts; p += at_once) {
            dw_graph_batch batch = {.parts = &t->parts[p], .n_parts = at_once, .wanted = columns, .n_wanted = at_once,
                                    .narrow = together,
                                    .layers = t->layers, .n_layers = t->n_layers, .result = DW_RESULT_HIDDEN};
            status = dw_decoder_evaluate(t->model->decoder, &batch, hidden + (size_t)p * width, err);
        }
    }
    for (uint32_t p = 0; status == DW_OK && p < n_parts; p += at_once) {
        status = dw_decoder_head(t->model->decoder, hidden + (size_t)p * width, at_once, together,
                                 logits + (size_t)p * n_vocab, err);
    }
    return status;
}

static dw_status try_batches(trial *t, dw_error *err) {
    static const uint32_t slot_of_part[PARTS_TRIED] = {0, 1, 3, 4};
    dw_status status = DW_OK;
    for (uint32_t p = 0; status == DW_OK && p < PARTS_TRIED; p++) {
        status = trial_bind(t, slot_of_part[p], &t->parts[p], err);
    }
    if (status == DW_OK) status = evaluate_parts(t, PARTS_TRIED, false, err);
    if (status == DW_OK) status = evaluate_parts(t, PARTS_TRIED, true, err);
    t->model->bits.batches = status == DW_OK &&
                             memcmp(t->hidden[0], t->hidden[1],
                                    (size_t)PARTS_TRIED * t->model->info.n_embedding * sizeof(float)) == 0 &&
                             memcmp(t->logits[0], t->logits[1],
                                    (size_t)PARTS_TRIED * t->model->info.n_vocab * sizeof(float)) == 0;
    return status;
}

/* CHUNK_TOKENS tokens into a slot, from row `begin` on, in two chunks: `first` and the rest. */
static dw_status evaluate_chunks(trial *t, uint32_t slot, uint32_t first, float *hidden, dw_error *err) {
    dw_graph_part part = {.tokens = t->tokens, .n_tokens = first};
    dw_status status = trial_bind(t, slot, &part, err);
    for (uint32_t done = 0; status == DW_OK && done < CHUNK_TOKENS; done += part.n_tokens) {
        part.tokens = t->tokens + done;
        part.first_position = t->begin + done;
        part.n_tokens = done == 0 ? first : CHUNK_TOKENS - done;
        uint32_t last = part.n_tokens - 1;
        dw_graph_batch batch = {.parts = &part, .n_parts = 1, .wanted = &last, .n_wanted = 1, .layers = t->layers,
                                .n_layers = t->n_layers,
                                .result = DW_RESULT_HIDDEN};
        status = dw_decoder_evaluate(t->model->decoder, &batch, hidden, err);
    }
    return status;
}

/* False also where they cannot be read. */
static bool same_rows(const trial *t, uint32_t a, uint32_t b, uint32_t n_rows) {
    dw_kv_arena *arena = t->model->pool->arena;
    assert(n_rows <= ROWS_OF_TRIAL);
    for (uint32_t i = 0; i < 2 * t->n_layers; i++) {
        bool read = dw_kv_read(arena, t->slots[a], area_of(t, i), 0, n_rows, t->rows[0], NULL) == DW_OK &&
                    dw_kv_read(arena, t->slots[b], area_of(t, i), 0, n_rows, t->rows[1], NULL) == DW_OK;
        if (!read || memcmp(t->rows[0], t->rows[1], (size_t)n_rows * t->model->info.kv_row_bytes) != 0) return false;
    }
    return true;
}

/* How many tokens of a chunk reach one expert differs from text to text, so no trial could show that its kernel is
 * always the same: it has to be for every number of them. */
static bool experts_are_wide(const dw_model *model) {
    struct ggml_context *all = model->weights.context;
    for (struct ggml_tensor *w = ggml_get_first_tensor(all); w != NULL; w = ggml_get_next_tensor(all, w)) {
        if (w->ne[2] > 1 && !model->bits.wide[w->type]) return false;
    }
    return true;
}

static dw_status try_chunks(trial *t, dw_error *err) {
    static const uint32_t cuts[] = {DW_PREFILL_CHUNK_TOKENS_MIN, DW_PREFILL_CHUNK_TOKENS_MIN + 3};
    if (t->model->info.context_tokens < CHUNK_TOKENS || !experts_are_wide(t->model)) return DW_OK;
    size_t bytes = t->model->info.n_embedding * sizeof(float);
    bool same = true;
    dw_status status = evaluate_chunks(t, 0, CHUNK_TOKENS, t->hidden[0], err);
    for (size_t i = 0; status == DW_OK && i < sizeof cuts / sizeof cuts[0]; i++) {
        status = evaluate_chunks(t, 1, cuts[i], t->hidden[1], err);
        same = same && status == DW_OK && same_rows(t, 0, 1, t->begin + CHUNK_TOKENS) &&
               memcmp(t->hidden[0], t->hidden[1], bytes) == 0;
    }
    t->model->bits.chunks = status == DW_OK && same;
    return status;
}

/* Two chunks of two sessions: one after the other in slots 0 and 1, and at once in 2 and 3. */
static dw_status try_packs(trial *t, dw_error *err) {
    enum { FIRST = DW_PREFILL_CHUNK_TOKENS_MIN + 3, SECOND = DW_PREFILL_CHUNK_TOKENS_MIN };
    if (!t->model->bits.chunks) return DW_OK;
    uint32_t width = t->model->info.n_embedding, packed_begin = t->begin == 0 ? 0 : t->begin + SECOND;
    dw_status status = DW_OK;
    for (uint32_t p = 0; status == DW_OK && p < 4; p++) { /* the second ones reach into the second step */
        t->parts[p] = p % 2 == 0 ? (dw_graph_part){.tokens = t->tokens, .n_tokens = FIRST}
                                 : (dw_graph_part){.tokens = t->tokens + FIRST, .n_tokens = SECOND,
                                                   .first_position = packed_begin};
        status = trial_bind(t, p, &t->parts[p], err);
    }
    for (uint32_t p = 0; status == DW_OK && p < 2; p++) {
        uint32_t last = t->parts[p].n_tokens - 1;
        dw_graph_batch alone = {.parts = &t->parts[p], .n_parts = 1, .wanted = &last, .n_wanted = 1,
                                .layers = t->layers, .n_layers = t->n_layers, .result = DW_RESULT_HIDDEN};
        status = dw_decoder_evaluate(t->model->decoder, &alone, t->hidden[0] + (size_t)p * width, err);
    }
    static const uint32_t lasts[2] = {FIRST - 1, FIRST + SECOND - 1};
    dw_graph_batch both = {.parts = &t->parts[2], .n_parts = 2, .wanted = lasts, .n_wanted = 2, .narrow = true,
                           .layers = t->layers, .n_layers = t->n_layers,
                           .result = DW_RESULT_HIDDEN};
    if (status == DW_OK) status = dw_decoder_evaluate(t->model->decoder, &both, t->hidden[1], err);
    t->model->bits.packs = status == DW_OK && same_rows(t, 0, 2, FIRST) && same_rows(t, 1, 3, packed_begin + SECOND) &&
                           memcmp(t->hidden[0], t->hidden[1], 2 * (size_t)width * sizeof(float)) == 0;
    return status;
}

/* --- all ------------------------------------------------------------------------------------------------------ */

static uint32_t fewest_heads(const dw_hyperparameters *hp) {
    uint32_t fewest = hp->n_heads;
    for (uint32_t layer = 0; layer < hp->n_layers; layer++) {
        fewest = hp->layers[layer].n_heads < fewest ? hp->layers[layer].n_heads : fewest;
    }
    return fewest;
}

static dw_status try_together(trial *t, dw_error *err) {
    dw_bits *bits = &t->model->bits;
    dw_status status = fill_first_step(t, err);
    if (status == DW_OK) status = try_batches(t, err);
    if (status == DW_OK && !bits->batches) {
        bits->experts_columns = 1;
        status = try_batches(t, err);
    }
    if (status == DW_OK) status = copy_first_step(t, err);
    if (status == DW_OK) status = try_chunks(t, err);
    if (status == DW_OK) status = copy_first_step(t, err);
    return status == DW_OK ? try_packs(t, err) : status;
}

dw_status dw_bits_find(dw_model *model, dw_error *err) {
    const dw_device_info *device = dw_device_info_view(model->device);
    dw_bits *bits = &model->bits;
    uint64_t begin_ns = dw_os_monotonic_ns();
    bits->experts_columns = EXPERTS_COLUMNS;
    bits->attention_by_rows =
        device->kind == DW_DEVICE_CPU && fewest_heads(&model->hp) >= dw_device_threads(model->device);
    /* A GPU that is a program would take longer to try than it could save. */
    if (device->kind == DW_DEVICE_GPU_SOFTWARE) return DW_OK;
    char note[DW_BITS_NOTE_PATH_BYTES];
    dw_bits_note_path(model, note);
    if (dw_bits_read_note(note, bits)) return DW_OK;
    trial t;
    dw_status status = trial_open(&t, model, err);
    if (status == DW_OK) try_products(model);
    if (status == DW_OK && t.n_layers > 0) status = try_together(&t, err);
    if (status == DW_OK) dw_bits_write_note(note, bits);
    trial_close(&t);
    if (status == DW_E_UNSUPPORTED) { /* the device cannot run what was tried: then it is not used */
        bits->batches = bits->chunks = bits->packs = false;
        status = DW_OK;
    }
    dw_log(DW_LOG_DEBUG, "bits", "batches=%d chunks=%d packs=%d by_rows=%d ms=%.1f", bits->batches, bits->chunks,
           bits->packs, bits->attention_by_rows,
           (double)(dw_os_monotonic_ns() - begin_ns) / 1e6);
    return status;
}
