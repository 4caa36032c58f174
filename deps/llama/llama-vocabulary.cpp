/* llama-vocabulary.cpp: opens a vocabulary with libllama's own loader and vocabulary, without its models. */
#include "llama-vocabulary.h"

#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "llama-model-loader.h"
#include "llama-vocab.h"

/* The loader names these for models that are split over several files. A header in memory has no other files, so they are never
 * called. The whole libllama defines them in earnest, and its definitions win where it is linked as well. */
extern "C" __attribute__((weak)) int32_t llama_split_path(char *, size_t, const char *, int32_t, int32_t) {
    GGML_ABORT("a vocabulary has no split files");
}

extern "C" __attribute__((weak)) int32_t llama_split_prefix(char *, size_t, const char *, int32_t, int32_t) {
    GGML_ABORT("a vocabulary has no split files");
}

/* Such words may quote the file, which is anybody's: only printable ASCII comes through. */
static void dw_tell(char *reason, size_t reason_bytes, const char *words) {
    if (reason_bytes == 0) return;
    snprintf(reason, reason_bytes, "%s", words);
    for (char *at = reason; *at; at++) {
        if (*at < 0x20 || *at > 0x7e) *at = '?';
    }
}

struct llama_vocab *dw_llama_vocabulary_load(struct gguf_context *header, char *reason, size_t reason_bytes) {
    try {
        std::vector<std::string> no_splits;
        llama_model_loader loader(header, nullptr, nullptr, std::string(), no_splits, nullptr, LLAMA_LOAD_MODE_NONE,
                                  /*check_tensors*/ false, /*no_alloc*/ false, /*load_mtp*/ false, nullptr, nullptr);
        auto vocabulary = std::make_unique<llama_vocab>();
        vocabulary->load(loader, loader.llm_kv);
        return vocabulary.release();
    } catch (const std::exception &error) {
        dw_tell(reason, reason_bytes, error.what());
    } catch (...) {
        dw_tell(reason, reason_bytes, "an exception without words");
    }
    return nullptr;
}

void dw_llama_vocabulary_free(struct llama_vocab *vocabulary) {
    delete vocabulary;
}
