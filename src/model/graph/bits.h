/* bits.h: what the bits of a result depend on, on this device and with this model's weights. Opening a model finds it
 * out.
 *
 * A device picks its kernel by the number of columns that come at once, and different kernels round differently. On the
 * CPU, measured (ggml 0.26): products with F32, F16, BF16 and IQ4_NL weights take another path from 2 columns on,
 * K-quants (Q2_K ... Q6_K, IQ4_XS) from 8 on; Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, MXFP4 and ternary ones round the same at
 * every width. (The other path is llamafile's product, and ggml's tiled product for K-quants.) A column that is a
 * matrix of its own, [input, 1, columns] instead of [input, columns], always takes the path of one column while weights
 * are still read once: the narrow form of a product.
 *
 * So a batch is exact when products with weights of the types that are not `wide` are narrow. Nothing of this is taken
 * on trust: each type is tried, then a whole batch is compared with its parts alone, and then prefill in several cuts,
 * each with a layer of every kind and across a step of KV rows. What does not hold is not used. A model with more kinds
 * of layers than are tried has none of it. What was found is kept in the cache folder (bits_note.c).
 * Threads: immutable once found out.
 */
#ifndef DW_MODEL_GRAPH_BITS_H
#define DW_MODEL_GRAPH_BITS_H

#include <stdbool.h>
#include "base/base.h"

enum { DW_BITS_TYPES = 64 };       /* at least as many as ggml has */

typedef struct dw_bits {
    /* products with weights of this type have the bits of single columns at every width */
    bool wide[DW_BITS_TYPES];
    uint32_t experts_columns;     /* tokens at a time that products with experts may take for the same to hold */
    /* the attention of one token is one pass over all rows, and is not cut between threads: bits do not depend on their
     * number */
    bool attention_by_rows;
    /* a narrow batch of single tokens gives each the bits it has alone: exact sessions may be batched */
    bool batches;
    bool packs;                   /* whole prefill chunks of several sessions give each the bits it has alone */
    /* prefill gives the same bits however it is cut, as long as each chunk has DW_PREFILL_CHUNK_TOKENS_MIN tokens */
    bool chunks;
} dw_bits;

#endif
