/* bits_layers.c: which layers show what all do. Kernels go by shapes, types and the kind of attention, so layers that
 * are equal in these do the same. */
#include <string.h>

#include "ggml.h"
#include "model/model_internal.h"

/* What kernels can go by. Made of integers alone, so that equal kinds are equal bytes. */
typedef struct layer_kind {
    uint32_t n_heads, n_feed_forward, windowed, rope, experts;
    int32_t types[9]; /* of the matrices; -1: there is none */
} layer_kind;

static int32_t type_of(const struct ggml_tensor *w) { return w != NULL ? (int32_t)w->type : -1; }

static layer_kind kind_of_layer(const dw_model *model, uint32_t layer) {
    const dw_layer_sizes *sizes = &model->hp.layers[layer];
    const dw_layer_weights *w = &model->weights.layers[layer];
    return (layer_kind){.n_heads = sizes->n_heads, .n_feed_forward = sizes->n_feed_forward,
                        .windowed = dw_layer_is_windowed(&model->hp, layer),
                        .rope = sizes->rope, .experts = w->router != NULL,
                        .types = {type_of(w->qkv), type_of(w->q), type_of(w->k), type_of(w->v), type_of(w->o),
                                  type_of(w->gate), type_of(w->up),
                                  type_of(w->down), type_of(w->router)}};
}

static bool same_layer_kind(const dw_model *model, uint32_t a, uint32_t b) {
    layer_kind x = kind_of_layer(model, a), y = kind_of_layer(model, b);
    return memcmp(&x, &y, sizeof x) == 0;
}

uint32_t dw_bits_layers(const dw_model *model, uint16_t out[DW_GRAPH_CHOSEN_MAX]) {
    uint32_t n = 0;
    for (uint32_t layer = 0; layer < model->hp.n_layers; layer++) {
        bool known = false;
        for (uint32_t i = 0; i < n && !known; i++) known = same_layer_kind(model, out[i], layer);
        if (known) continue;
        if (n == DW_GRAPH_CHOSEN_MAX) return 0;
        out[n++] = (uint16_t)layer;
    }
    if (n == 1 && model->hp.n_layers > 1) out[n++] = 1; /* what one layer gives is another's input */
    return n;
}
