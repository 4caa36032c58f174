/* encoder.c: builds, feeds and runs the graph of an encoder. See encoder.h.
 *
 * BERT: Devlin et al. 2018; pooling to sentence vectors: Reimers and Gurevych 2019; attention by tiles: Dao et al.
 * 2022.
 */
#include "model/graph/encoder.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml.h"

enum {
    NODES_OUTSIDE = 32,         /* inputs, embeddings */
    NODES_PER_LAYER = 40,       /* without attention: 28 */
    /* Attention: three views, each permuted, the operation, a reshape, its place among the others. */
    NODES_PER_LAYER_TEXT = 10,
    NODES_PER_TEXT = 8,         /* pooling */
    CHECKED_TOKENS = 8,
};
static const float l2_epsilon = 1e-12f;

typedef struct ggml_tensor tensor;

struct dw_encoder {
    dw_device *device;
    dw_encoder_hyperparameters hp;
    dw_encoder_weights weights;
    void *memory;               /* of tensor descriptions and the graph; grows with the largest */
    size_t memory_bytes;
    ggml_gallocr_t allocator;
    uint64_t counted_bytes;     /* of the allocator, in the device's ledger */
    void *scratch;              /* inputs on their way to a device with memory of its own */
    size_t scratch_bytes;
};

/* One graph. Texts lie one behind the other: N tokens in all. */
typedef struct pass {
    dw_encoder *encoder;
    const dw_embed_text *texts;
    uint32_t n_texts, n_tokens; /* N */
    dw_pooling pooling;
    bool normalize;
    struct ggml_context *context;
    struct ggml_cgraph *graph;
    tensor *tokens;             /* I32 [N], or */
    tensor *embedding;          /* F32 [width, N], looked up on the host */
    tensor *positions;          /* I32 [N] */
    tensor **means;             /* [n_texts] F32 [n of the text]: 1/n each; mean pooling only */
    tensor **vectors;           /* [n_texts] F32 [width] */
    dw_error *err;
} pass;

/* --- operations ---------------------------------------------------------------------------------------------- */

static tensor *mark_encoder_input(tensor *t, const char *name) {
    ggml_set_name(t, name);
    ggml_set_input(t);
    return t;
}

static tensor *encoder_linear(pass *p, const dw_encoder_linear *w, tensor *x) {
    tensor *y = ggml_mul_mat(p->context, w->weight, x);
    return w->bias != NULL ? ggml_add(p->context, y, w->bias) : y;
}

static tensor *layer_norm(pass *p, const dw_encoder_linear *w, tensor *x) {
    tensor *y = ggml_mul(p->context, ggml_norm(p->context, x, p->encoder->hp.norm_epsilon), w->weight);
    return ggml_add(p->context, y, w->bias);
}

/* The rows of one text as attention takes them: [head_dim, n, n_heads]. x [head_dim, n_heads, N]. */
static tensor *rows_of(pass *p, tensor *x, uint32_t first, uint32_t n) {
    tensor *rows = ggml_view_3d(p->context, x, x->ne[0], x->ne[1], n, x->nb[1], x->nb[2], first * x->nb[2]);
    return ggml_permute(p->context, rows, 0, 2, 1, 3);
}

/* q, k, v [head_dim, n_heads, N] -> [width, N]. What several texts give is put into one tensor, each row copied
 * once. */
static tensor *encoder_attention(pass *p, tensor *q, tensor *k, tensor *v) {
    const dw_encoder_hyperparameters *hp = &p->encoder->hp;
    ggml_build_forward_expand(p->graph, q);
    ggml_build_forward_expand(p->graph, k);
    ggml_build_forward_expand(p->graph, v);
    k = ggml_cast(p->context, k, GGML_TYPE_F16);
    v = ggml_cast(p->context, v, GGML_TYPE_F16);
    tensor *all = p->n_texts > 1 ? ggml_new_tensor_2d(p->context, GGML_TYPE_F32, hp->n_embedding, p->n_tokens) : NULL;
    uint32_t first = 0;
    for (uint32_t i = 0; i < p->n_texts; i++) {
        uint32_t n = p->texts[i].n_tokens;
        tensor *y = ggml_flash_attn_ext(p->context, rows_of(p, q, first, n), rows_of(p, k, first, n),
                                        rows_of(p, v, first, n), NULL, 1.0f / sqrtf((float)hp->head_dim), 0.0f, 0.0f);
        ggml_prec_set_acc(y, GGML_PREC_F32);
        y = ggml_reshape_2d(p->context, y, hp->n_embedding, n);
        all = all != NULL ? ggml_set_2d_inplace(p->context, all, y, all->nb[1], first * all->nb[1]) : y;
        first += n;
    }
    return all;
}

static tensor *encoder_layer(pass *p, const dw_encoder_layer *w, tensor *x) {
    const dw_encoder_hyperparameters *hp = &p->encoder->hp;
    tensor *heads[3];
    const dw_encoder_linear *projections[3] = {&w->q, &w->k, &w->v};
    for (int i = 0; i < 3; i++) {
        heads[i] = ggml_reshape_3d(p->context, encoder_linear(p, projections[i], x), hp->head_dim, hp->n_heads,
                                   p->n_tokens);
    }
    tensor *y = encoder_linear(p, &w->o, encoder_attention(p, heads[0], heads[1], heads[2]));
    tensor *middle = layer_norm(p, &w->attention_norm, ggml_add(p->context, y, x));
    y = encoder_linear(p, &w->down, ggml_gelu(p->context, encoder_linear(p, &w->up, middle)));
    return layer_norm(p, &w->output_norm, ggml_add(p->context, y, middle));
}

static tensor *embed_tokens(pass *p) {
    const dw_encoder_weights *w = &p->encoder->weights;
    struct ggml_context *c = p->context;
    int64_t n = p->n_tokens;
    tensor *x = NULL;
    p->positions = mark_encoder_input(ggml_new_tensor_1d(c, GGML_TYPE_I32, n), "positions");
    if (ggml_nbytes(w->embedding) > dw_device_info_view(p->encoder->device)->tensor_bytes_max) {
        x = p->embedding = mark_encoder_input(ggml_new_tensor_2d(c, GGML_TYPE_F32, w->embedding->ne[0], n),
                                              "embedding");
    } else {
        p->tokens = mark_encoder_input(ggml_new_tensor_1d(c, GGML_TYPE_I32, n), "tokens");
        x = ggml_get_rows(c, w->embedding, p->tokens);
    }
    /* One text is one sentence: all its tokens have type 0. */
    if (w->token_type != NULL) x = ggml_add(c, x, ggml_view_1d(c, w->token_type, w->token_type->ne[0], 0));
    x = ggml_add(c, ggml_get_rows(c, w->position, p->positions), x);
    return layer_norm(p, &w->embedding_norm, x);
}

/* The vector of text i from its hidden rows first .. first + n - 1 of x [width, N]. */
static tensor *pool_vectors(pass *p, tensor *x, uint32_t i, uint32_t first) {
    struct ggml_context *c = p->context;
    uint32_t n = p->texts[i].n_tokens;
    tensor *y;
    if (p->pooling == DW_POOLING_MEAN) {
        p->means[i] = mark_encoder_input(ggml_new_tensor_2d(c, GGML_TYPE_F32, n, 1), "mean");
        tensor *rows = ggml_view_2d(c, x, x->ne[0], n, x->nb[1], first * x->nb[1]);
        y = ggml_mul_mat(c, ggml_cont(c, ggml_transpose(c, rows)), p->means[i]);
    } else {
        uint32_t row = p->pooling == DW_POOLING_LAST ? first + n - 1 : first;
        y = ggml_view_1d(c, x, x->ne[0], row * x->nb[1]);
        if (!p->normalize) y = ggml_cont(c, y);
    }
    return p->normalize ? ggml_l2_norm(c, y, l2_epsilon) : y;
}

static void build_encoder_graph(pass *p) {
    const dw_encoder_weights *w = &p->encoder->weights;
    tensor *x = embed_tokens(p);
    for (uint32_t i = 0; i < p->encoder->hp.n_layers; i++) x = encoder_layer(p, &w->layers[i], x);
    uint32_t first = 0;
    for (uint32_t i = 0; i < p->n_texts; i++) {
        p->vectors[i] = pool_vectors(p, x, i, first);
        ggml_set_output(p->vectors[i]);
        ggml_build_forward_expand(p->graph, p->vectors[i]);
        first += p->texts[i].n_tokens;
    }
}

/* --- preparing ----------------------------------------------------------------------------------------------- */

static bool on_host(const dw_encoder *encoder) { return dw_device_info_view(encoder->device)->addresses_are_host; }

static dw_status grow_encoder_memory(void **memory, size_t *have, size_t need, dw_error *err) {
    if (need <= *have) return DW_OK;
    free(*memory);
    *have = 0;
    *memory = malloc(need);
    if (*memory == NULL) return dw_fail(err, DW_E_NO_MEMORY, "no memory for an encoder's graph");
    *have = need;
    return DW_OK;
}

/* Builds the graph, checks every node, and gives memory to all tensors but the vectors that lie in the caller's. */
static dw_status prepare_encoder_graph(pass *p) {
    dw_encoder *e = p->encoder;
    size_t nodes = NODES_OUTSIDE + e->hp.n_layers * (size_t)(NODES_PER_LAYER + NODES_PER_LAYER_TEXT * p->n_texts) +
                   NODES_PER_TEXT * (size_t)p->n_texts;
    size_t bytes = nodes * ggml_tensor_overhead() + ggml_graph_overhead_custom(nodes, false);
    dw_status status = grow_encoder_memory(&e->memory, &e->memory_bytes, bytes, p->err);
    if (status != DW_OK) return status;
    p->context = ggml_init(
        (struct ggml_init_params){.mem_size = e->memory_bytes, .mem_buffer = e->memory, .no_alloc = true});
    p->means = calloc(p->n_texts, sizeof(tensor *));
    p->vectors = calloc(p->n_texts, sizeof(tensor *));
    if (p->context == NULL || p->means == NULL || p->vectors == NULL)
        return dw_fail(p->err, DW_E_NO_MEMORY, "no memory for an encoder's graph");
    p->graph = ggml_new_graph_custom(p->context, nodes, false);
    build_encoder_graph(p);
    status = dw_device_supports(e->device, p->graph, p->err);
    if (status != DW_OK) return status;
    /* An address keeps the allocator from giving a vector memory of its own. */
    for (uint32_t i = 0; on_host(e) && i < p->n_texts; i++) p->vectors[i]->data = p->texts[i].vector;
    status = dw_device_allocator_place(e->allocator, p->graph, p->err);
    if (status != DW_OK) return status;
    uint64_t used = ggml_gallocr_get_buffer_size(e->allocator, 0);
    if (used > e->counted_bytes) {
        dw_device_count_allocation(e->device, used - e->counted_bytes);
        e->counted_bytes = used;
    }
    return DW_OK;
}

static void drop_encoder_graph(pass *p) {
    if (p->context != NULL) ggml_free(p->context);
    free(p->means);
    free(p->vectors);
}

/* --- feeding ------------------------------------------------------------------------------------------------- */

/* Memory to make an input in: the tensor itself where it is host memory, else scratch that `send` copies. */
static void *encoder_input_memory(pass *p, const tensor *t) {
    if (on_host(p->encoder)) return t->data;
    dw_encoder *e = p->encoder;
    return grow_encoder_memory(&e->scratch, &e->scratch_bytes, ggml_nbytes(t), p->err) == DW_OK ? e->scratch : NULL;
}

static dw_status send_encoder_input(pass *p, tensor *t, const void *memory) {
    return memory == t->data ? DW_OK : dw_tensor_write(p->encoder->device, t, memory, 0, ggml_nbytes(t));
}

/* Token numbers, or positions that start again with each text. */
static dw_status set_numbers(pass *p, tensor *t, bool positions) {
    int32_t *to = encoder_input_memory(p, t);
    if (to == NULL) return DW_E_NO_MEMORY;
    size_t at = 0;
    for (uint32_t i = 0; i < p->n_texts; i++) {
        for (uint32_t k = 0; k < p->texts[i].n_tokens; k++) to[at++] = positions ? (int32_t)k : p->texts[i].tokens[k];
    }
    return send_encoder_input(p, t, to);
}

static dw_status set_embedding(pass *p) {
    const tensor *table = p->encoder->weights.embedding;
    const struct ggml_type_traits *traits = ggml_get_type_traits(table->type);
    float *to = encoder_input_memory(p, p->embedding);
    if (to == NULL) return DW_E_NO_MEMORY;
    float *row = to;
    for (uint32_t i = 0; i < p->n_texts; i++) {
        for (uint32_t k = 0; k < p->texts[i].n_tokens; k++, row += table->ne[0]) {
            const uint8_t *from = (const uint8_t *)p->encoder->weights.embedding_host +
                                  (size_t)p->texts[i].tokens[k] * table->nb[1];
            if (table->type == GGML_TYPE_F32) memcpy(row, from, table->nb[1]);
            else traits->to_float(from, row, table->ne[0]);
        }
    }
    return send_encoder_input(p, p->embedding, to);
}

static dw_status set_mean(pass *p, uint32_t i) {
    uint32_t n = p->texts[i].n_tokens;
    float *to = encoder_input_memory(p, p->means[i]);
    if (to == NULL) return DW_E_NO_MEMORY;
    for (uint32_t k = 0; k < n; k++) to[k] = 1.0f / (float)n;
    return send_encoder_input(p, p->means[i], to);
}

static dw_status feed_encoder(pass *p) {
    dw_status status = p->tokens != NULL ? set_numbers(p, p->tokens, false) : set_embedding(p);
    if (status == DW_OK) status = set_numbers(p, p->positions, true);
    for (uint32_t i = 0; status == DW_OK && p->pooling == DW_POOLING_MEAN && i < p->n_texts; i++)
        status = set_mean(p, i);
    return status;
}

/* --- the module's face --------------------------------------------------------------------------------------- */

dw_status dw_encoder_run(dw_encoder *encoder, const dw_embed_text *texts, uint32_t n_texts, dw_pooling pooling,
                         bool normalize, dw_error *err) {
    pass p = {
        .encoder = encoder, .texts = texts, .n_texts = n_texts, .pooling = pooling, .normalize = normalize, .err = err};
    for (uint32_t i = 0; i < n_texts; i++) p.n_tokens += texts[i].n_tokens;
    dw_status status = prepare_encoder_graph(&p);
    if (status == DW_OK) status = feed_encoder(&p);
    if (status == DW_OK) status = dw_device_compute(encoder->device, p.graph, err);
    for (uint32_t i = 0; status == DW_OK && !on_host(encoder) && i < n_texts; i++) {
        status = dw_tensor_read(encoder->device, p.vectors[i], texts[i].vector, 0, ggml_nbytes(p.vectors[i]));
    }
    drop_encoder_graph(&p);
    return status;
}

/* A graph of two texts that is never run. */
static dw_status check_encoder_graph(dw_encoder *encoder, dw_error *err) {
    uint32_t n = encoder->hp.context < CHECKED_TOKENS ? encoder->hp.context : CHECKED_TOKENS;
    float nowhere = 0;
    const dw_embed_text texts[2] = {{.n_tokens = n, .vector = &nowhere}, {.n_tokens = 1, .vector = &nowhere}};
    pass p = {.encoder = encoder, .texts = texts, .n_texts = 2, .n_tokens = n + 1, .pooling = encoder->hp.pooling,
              .normalize = true, .err = err};
    dw_status status = prepare_encoder_graph(&p);
    drop_encoder_graph(&p);
    return status;
}

dw_status dw_encoder_open(const dw_gguf *gguf, dw_device *device, dw_encoder **out, dw_error *err) {
    *out = NULL;
    dw_encoder *encoder = calloc(1, sizeof *encoder);
    if (encoder == NULL) return dw_fail(err, DW_E_NO_MEMORY, "no memory for an encoder");
    encoder->device = device;
    dw_status status = dw_encoder_hyperparameters_read(gguf, &encoder->hp, err);
    if (status == DW_OK) status = dw_encoder_weights_open(gguf, &encoder->hp, device, &encoder->weights, err);
    if (status == DW_OK) {
        encoder->allocator = dw_device_allocator_create(device);
        if (encoder->allocator == NULL) status = dw_fail(err, DW_E_NO_MEMORY, "no memory for an encoder");
    }
    if (status == DW_OK) status = check_encoder_graph(encoder, err);
    if (status != DW_OK) dw_encoder_close(encoder);
    else *out = encoder;
    return status;
}

void dw_encoder_close(dw_encoder *encoder) {
    if (encoder == NULL) return;
    dw_device_allocator_destroy(encoder->allocator);
    if (encoder->counted_bytes > 0) dw_device_count_release(encoder->device, encoder->counted_bytes);
    dw_encoder_weights_close(&encoder->weights);
    free(encoder->memory);
    free(encoder->scratch);
    free(encoder);
}

const dw_encoder_hyperparameters *dw_encoder_hyperparameters_view(const dw_encoder *encoder) { return &encoder->hp; }
const dw_encoder_weights *dw_encoder_weights_view(const dw_encoder *encoder) { return &encoder->weights; }
