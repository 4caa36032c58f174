/* vocab_fuzz.c: a GGUF that was accepted, as a vocabulary: refused, or libllama takes it and tokenizes without an assertion or an
 * exception, which would end the process. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "model/text/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int truth, const char *what) {
    if (truth) return;
    fprintf(stderr, "vocabulary: %s\n", what);
    abort();
}

static void use(dw_vocab *vocab) {
    static const char text[] = "hello world \xff\x00 <s></s> 12345... \xf0\x9f\x8c\xb2";
    int32_t tokens[256];
    char back[4096];
    size_t n = 0, bytes = 0;
    for (int special = 0; special < 2; special++) {
        dw_status status = dw_vocab_tokenize(vocab, text, sizeof text - 1, true, special != 0, tokens, 256, &n, NULL);
        must(status == DW_OK, "a short text does not fit");
        for (size_t i = 0; i < n; i++) must(tokens[i] >= 0 && (uint32_t)tokens[i] < dw_vocab_size(vocab), "a token outside the vocabulary");
        status = dw_vocab_detokenize(vocab, tokens, n, true, back, sizeof back, &bytes, NULL);
        must(status == DW_OK || status == DW_E_FULL, "own tokens have no text");
    }
    (void)dw_vocab_is_end(vocab, dw_vocab_eos(vocab));
    (void)dw_vocab_bos(vocab);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    dw_gguf *gguf = NULL;
    dw_vocab *vocab = NULL;
    dw_error err = {0};
    if (dw_gguf_open_bytes(data, size, &gguf, &err) != DW_OK) return 0;
    if (dw_vocab_create(gguf, &vocab, &err) == DW_OK && dw_vocab_wait(vocab, &err) == DW_OK) use(vocab);
    dw_vocab_destroy(vocab);
    dw_gguf_close(gguf);
    return 0;
}
