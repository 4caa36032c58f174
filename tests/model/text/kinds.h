/* kinds.h: one small vocabulary of each kind of tokenizer: SentencePiece without and with a space in front, WordPiece,
 * and byte pairs with each way to split words. Of one test or fuzzer. */
#ifndef DW_TESTS_MODEL_TEXT_KINDS_H
#define DW_TESTS_MODEL_TEXT_KINDS_H

#include <stdio.h>
#include <string.h>

#include "model/kit/make_gguf.h"
#include "model/text/splitter.h"
#include "model/text/text.h"

typedef struct kind { const char *name; dw_writer w; dw_gguf *gguf; dw_vocab *vocab; } kind;

enum { KIND_PLAIN, KIND_SPACES, KIND_WORD_PIECES, KIND_FIRST_SPLITTER };

/* Opens kind number `index`; false behind the last one. A vocabulary that does not load leaves `vocab` NULL and prints
 * why. */
static inline bool kind_open(kind *k, size_t index) {
    *k = (kind){.name = index == KIND_PLAIN ? "plain" : index == KIND_SPACES ? "spaces" : "word pieces"};
    if (index >= KIND_FIRST_SPLITTER) k->name = dw_splitter_at(index - KIND_FIRST_SPLITTER);
    if (!k->name) return false;
    dw_error err = {0};
    dw_writer_init(&k->w);
    if (index == KIND_WORD_PIECES) make_word_pieces(&k->w);
    else
        make_llama(&k->w, &(make_vocabulary){.byte_pairs = index >= KIND_FIRST_SPLITTER,
                                             .pre = k->name,
                                             .spaces = index == KIND_SPACES});
    dw_status status = make_open(&k->w, &k->gguf, &err);
    if (status == DW_OK) status = dw_vocab_create(k->gguf, &k->vocab, &err);
    if (status == DW_OK) status = dw_vocab_wait(k->vocab, &err);
    if (status == DW_OK) return true;
    fprintf(stderr, "%s: %s: %s\n", k->name, dw_status_name(status), err.text);
    dw_vocab_destroy(k->vocab);
    k->vocab = NULL;
    return true;
}

static inline void kind_close(kind *k) {
    dw_vocab_destroy(k->vocab);
    dw_gguf_close(k->gguf);
    dw_writer_deinit(&k->w);
}

#endif
