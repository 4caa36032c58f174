/* prompt.c: see prompt.h. */
#include "prompt.h"

static void draw(uint32_t n_vocab, uint32_t salt, int32_t *out, uint32_t n) {
    /* Small ids are control tokens and single bytes in the usual vocabularies. */
    uint32_t state = salt, first = n_vocab > 4096 ? 2048 : n_vocab / 2;
    for (uint32_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u; /* Knuth, TAOCP 3.3.4, line 26 of table 1 */
        out[i] = (int32_t)(first + (state >> 8) % (n_vocab - first));
    }
}

void bench_prompt_make(const bench_prompt *prompt, int32_t *out) {
    draw(prompt->n_vocab, prompt->shared_salt, out, prompt->n_shared);
    draw(prompt->n_vocab, prompt->own_salt, out + prompt->n_shared, prompt->n_own);
    if (prompt->bos >= 0 && prompt->n_shared + prompt->n_own > 0) out[0] = prompt->bos;
}
