// llama_shim.cpp: where libllama's exceptions end. See llama_shim.h.
#include "model/text/llama_shim.h"

#include <atomic>
#include <climits>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>

#include "base/log.h"
#include "gguf.h"
#include "llama-vocabulary.h"
#include "llama.h"

struct dw_llama {
    llama_vocab *vocab = nullptr;
    ~dw_llama() { dw_llama_vocabulary_free(vocab); }
};

namespace {

void log_from_llama(ggml_log_level, const char *text, void *) {
    size_t length = std::strlen(text);
    while (length > 0 && text[length - 1] == '\n') length--;
    if (length == 0) return;
    dw_log(DW_LOG_DEBUG, "llama", "text=\"%.*s\"", static_cast<int>(length < 2000 ? length : 2000), text);
}

// What goes wrong is reported as a status; libllama's own lines are for debugging. It sets ggml's log along with its
// own, which is the device module's to set.
void quiet_llama() {
    static std::atomic_flag done = ATOMIC_FLAG_INIT;
    if (done.test_and_set()) return;
    ggml_log_callback callback = nullptr;
    void *context = nullptr;
    ggml_log_get(&callback, &context);
    llama_log_set(log_from_llama, nullptr);
    ggml_log_set(callback, context);
}

// The status of what is being thrown; called in a handler.
dw_status status_of_exception(dw_error *err) noexcept {
    try {
        throw;
    } catch (const std::bad_alloc &) {
        return dw_fail(err, DW_E_NO_MEMORY, "libllama has no memory");
    } catch (const std::exception &e) {
        return dw_fail(err, DW_E_INTERNAL, "libllama: %s", e.what());
    } catch (...) {
        return dw_fail(err, DW_E_INTERNAL, "libllama threw something without a text");
    }
}

template <typename Call> dw_status guard_llama(dw_error *err, Call call) noexcept {
    try {
        return call();
    } catch (...) {
        return status_of_exception(err);
    }
}

dw_llama_kind kind_of(enum llama_vocab_type type) {
    switch (type) {
    case LLAMA_VOCAB_TYPE_SPM: return DW_LLAMA_SENTENCE_PIECE;
    case LLAMA_VOCAB_TYPE_BPE: return DW_LLAMA_BYTE_PAIRS;
    case LLAMA_VOCAB_TYPE_WPM: return DW_LLAMA_WORD_PIECES;
    default: return DW_LLAMA_OTHER;
    }
}

// libllama takes special tokens as uint32 alone; files of others number them as int32 too, and say -1 for none.
void mend_special_ids(gguf_context *gguf) {
    static const char *const names[] = {"bos",     "eos",     "eot",     "eom",     "unknown", "seperator",
                                        "padding", "mask",    "fim_pre", "fim_suf", "fim_mid", "fim_pad",
                                        "fim_rep", "fim_sep", "prefix",  "suffix",  "middle"};
    for (const char *name : names) {
        const std::string key = std::string("tokenizer.ggml.") + name + "_token_id";
        int64_t at = gguf_find_key(gguf, key.c_str());
        if (at < 0 || gguf_get_kv_type(gguf, at) != GGUF_TYPE_INT32) continue;
        int32_t id = gguf_get_val_i32(gguf, at);
        if (id < 0) (void)gguf_remove_key(gguf, key.c_str());
        else gguf_set_val_u32(gguf, key.c_str(), static_cast<uint32_t>(id));
    }
}

// libllama's counts, negative where the room is too small.
dw_status counted(int32_t made, size_t *n, size_t capacity, const char *what, dw_error *err) {
    if (made == INT32_MIN) return dw_fail(err, DW_E_LIMIT, "the text has too many %s", what);
    *n = static_cast<size_t>(made < 0 ? -made : made);
    if (made >= 0) return DW_OK;
    return dw_fail(err, DW_E_FULL, "the text has %zu %s, there is room for %zu", *n, what, capacity);
}

int32_t room_of(size_t capacity) { return capacity < INT32_MAX ? static_cast<int32_t>(capacity) : INT32_MAX; }

} // namespace

dw_status dw_llama_open(const void *header, size_t bytes, bool is_normal, dw_llama **out, dw_llama_facts *facts,
                        dw_error *err) {
    *out = nullptr;
    *facts = dw_llama_facts{};
    return guard_llama(err, [&] {
        quiet_llama();
        std::unique_ptr<gguf_context, decltype(&gguf_free)> gguf(gguf_init_from_buffer(header, bytes, {true, nullptr}),
                                                                 gguf_free);
        if (!gguf)
            return dw_fail(err, DW_E_FORMAT,
                           "vocabulary: ggml does not take this file (DRIFTWOOD_LOG=debug shows why)");
        if (is_normal) {
            gguf_set_val_bool(gguf.get(), "tokenizer.ggml.normalizer.lowercase", false);
            gguf_set_val_bool(gguf.get(), "tokenizer.ggml.normalizer.strip_accents", false);
        }
        mend_special_ids(gguf.get());
        auto llama = std::make_unique<dw_llama>();
        char reason[DW_ERROR_TEXT_BYTES / 2];
        llama->vocab = dw_llama_vocabulary_load(gguf.get(), reason, sizeof reason);
        if (llama->vocab == nullptr)
            return dw_fail(err, DW_E_FORMAT, "vocabulary: libllama does not take it: %s", reason);
        facts->kind = kind_of(llama_vocab_type(llama->vocab));
        facts->n_tokens = llama_vocab_n_tokens(llama->vocab);
        facts->bos = llama_vocab_bos(llama->vocab);
        facts->eos = llama_vocab_eos(llama->vocab);
        facts->separator = llama_vocab_sep(llama->vocab);
        facts->adds_bos = llama_vocab_get_add_bos(llama->vocab);
        facts->adds_eos = llama_vocab_get_add_eos(llama->vocab);
        *out = llama.release();
        return DW_OK;
    });
}

void dw_llama_close(dw_llama *llama) {
    (void)guard_llama(nullptr, [&] {
        delete llama;
        return DW_OK;
    });
}

dw_status dw_llama_token(const dw_llama *llama, int32_t token, const char **text, unsigned *flags, dw_error *err) {
    *text = "";
    *flags = 0;
    return guard_llama(err, [&] {
        *text = llama_vocab_get_text(llama->vocab, token);
        auto attributes = static_cast<unsigned>(llama_vocab_get_attr(llama->vocab, token));
        if (llama_vocab_is_eog(llama->vocab, token)) *flags |= DW_LLAMA_TOKEN_END;
        if (attributes & LLAMA_TOKEN_ATTR_CONTROL) *flags |= DW_LLAMA_TOKEN_CONTROL;
        if (attributes & LLAMA_TOKEN_ATTR_UNKNOWN) *flags |= DW_LLAMA_TOKEN_UNKNOWN;
        if (attributes & LLAMA_TOKEN_ATTR_USER_DEFINED) *flags |= DW_LLAMA_TOKEN_WHOLE;
        return DW_OK;
    });
}

dw_status dw_llama_tokenize(const dw_llama *llama, const char *text, size_t length, bool add_special,
                            bool parse_special, int32_t *tokens, size_t capacity, size_t *n, dw_error *err) {
    *n = 0;
    if (length > INT32_MAX) return dw_fail(err, DW_E_LIMIT, "a text of %zu bytes to tokenize", length);
    return guard_llama(err, [&] {
        int32_t made = llama_tokenize(llama->vocab, text, static_cast<int32_t>(length), tokens, room_of(capacity),
                                      add_special, parse_special);
        return counted(made, n, capacity, "tokens", err);
    });
}

dw_status dw_llama_piece(const dw_llama *llama, int32_t token, bool special, char *out, size_t capacity, size_t *n) {
    *n = 0;
    return guard_llama(nullptr, [&] {
        int32_t made = llama_token_to_piece(llama->vocab, token, out, room_of(capacity), 0, special);
        return counted(made, n, capacity, "bytes", nullptr);
    });
}
