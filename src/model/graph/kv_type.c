/* kv_type.c */
#include "model/graph/kv_type.h"

#include <string.h>

#include "ggml.h"

static const struct { const char *name; enum ggml_type ggml; uint32_t block, block_bytes;
} types[DW_KV_TYPES] = {[DW_KV_F16] = {"F16", GGML_TYPE_F16, 1, 2},
                        [DW_KV_BF16] = {"BF16", GGML_TYPE_BF16, 1, 2},
                        [DW_KV_Q8_0] = {"Q8_0", GGML_TYPE_Q8_0, 32, 34}};

const char *dw_kv_type_name(dw_kv_type type) { return types[type].name; }
uint32_t dw_kv_type_ggml(dw_kv_type type) { return types[type].ggml; }
uint32_t dw_kv_type_block(dw_kv_type type) { return types[type].block; }

bool dw_kv_type_named(const char *name, dw_kv_type *out) {
    for (int i = 0; i < DW_KV_TYPES; i++) {
        if (strcmp(types[i].name, name) != 0) continue;
        *out = (dw_kv_type)i;
        return true;
    }
    return false;
}

uint64_t dw_kv_row_bytes(dw_kv_type type, uint32_t n_heads_kv, uint32_t head_dim) {
    uint64_t blocks = ((uint64_t)head_dim + types[type].block - 1) / types[type].block;
    return n_heads_kv * blocks * types[type].block_bytes;
}
