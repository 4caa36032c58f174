/* tokenizers_fuzz.c: any bytes as a text, for every kind of tokenizer. The first byte picks the kind, the second the
 * place and whether control tokens are recognised. The text is tokenized or refused for its cost; broken text is read
 * as its repair; tokens have text; and a text that goes on comes back from a tokenizer that loses nothing. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "kinds.h"
#include "model/text/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

enum { KINDS_MAX = 256, TOKENS_MAX = 1 << 16 };
static kind kinds[KINDS_MAX];
static size_t n_kinds;
static int32_t tokens[TOKENS_MAX], others[TOKENS_MAX];

static void must(int truth, const char *what, const kind *k) {
    if (truth) return;
    fprintf(stderr, "%s: %s\n", k->name, what);
    abort();
}

/* Kept until the process ends, and then closed: the leak checker looks. */
static void close_all(void) {
    for (size_t i = 0; i < n_kinds; i++) kind_close(&kinds[i]);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    while (n_kinds < KINDS_MAX && kind_open(&kinds[n_kinds], n_kinds)) {
        must(kinds[n_kinds].vocab != NULL, "does not load", &kinds[n_kinds]);
        n_kinds++;
    }
    atexit(close_all);
    return 0;
}

/* SentencePiece with a token for the space, and byte pairs that write bytes, lose nothing. */
static bool keeps_text(const kind *k) {
    size_t index = (size_t)(k - kinds);
    return index == KIND_SPACES ||
           (index >= KIND_FIRST_SPLITTER && !strstr("gemma4 granite-embed-multi-311m mmbert sarvam-moe", k->name));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) return 0;
    const kind *k = &kinds[data[0] % n_kinds];
    dw_text_place place = (dw_text_place)(data[1] % 3);
    bool special = (data[1] & 0x80) != 0;
    const char *text = (const char *)data + 2;
    size_t length = size - 2, n = 0, n_others = 0, bytes = dw_utf8_repaired_bytes(text, length), back = 0;
    char *repaired = malloc(bytes + 1), *pieces = malloc(4 * bytes + 64);
    must(repaired != NULL && pieces != NULL, "no memory", k);
    dw_utf8_repair(text, length, repaired);
    dw_status status = dw_vocab_tokenize(k->vocab, text, length, place, special, tokens, TOKENS_MAX, &n, NULL);
    dw_status other = dw_vocab_tokenize(k->vocab, repaired, bytes, place, special, others, TOKENS_MAX, &n_others, NULL);
    must(status == DW_OK || status == DW_E_LIMIT || status == DW_E_FULL, dw_status_name(status), k);
    must(status == other && n == n_others && (status != DW_OK || memcmp(tokens, others, n * sizeof tokens[0]) == 0),
         "differs from its repair", k);
    if (status == DW_OK) {
        for (size_t i = 0; i < n; i++)
            must(tokens[i] >= 0 && (uint32_t)tokens[i] < dw_vocab_size(k->vocab), "a token outside the vocabulary", k);
        status = dw_vocab_detokenize(k->vocab, tokens, n, special, pieces, 4 * bytes + 64, &back, NULL);
        must(status == DW_OK || status == DW_E_FULL, "own tokens have no text", k);
        bool same = back == bytes && memcmp(pieces, repaired, bytes) == 0;
        must(same || special || place != DW_TEXT_GOES_ON || !keeps_text(k), "the text is another one", k);
    }
    free(repaired);
    free(pieces);
    return 0;
}
