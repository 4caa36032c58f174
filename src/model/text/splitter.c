/* splitter.c: the names, and the bounds. See splitter.h. Read from llama-vocab.cpp and unicode.cpp of the pinned
 * source; read them again when the pin moves. */
#include "model/text/splitter.h"

#include <inttypes.h>
#include <string.h>
#include <utf8proc.h>

#include "model/text/utf8.h"

static const uint64_t squares_max = 10000000; /* of a run's length: 0.6 to 0.9 s */

typedef struct splitter { const char *name; dw_splitter_kind kind; } splitter;

/* libllama knows "whitespace" too, but only of a tokenizer of its own: with byte pairs it ends in an assertion at two
 * spaces. */
static const splitter splitters[] = {
    /* patterns that libllama has a loop for */
    {"a.x-4.0", DW_SPLITTER_LOOPS},
    {"chatglm-bpe", DW_SPLITTER_LOOPS},
    {"dbrx", DW_SPLITTER_LOOPS},
    {"deepseek-r1-qwen", DW_SPLITTER_LOOPS},
    {"exaone4", DW_SPLITTER_LOOPS},
    {"f2llmv2", DW_SPLITTER_LOOPS},
    {"falcon-h1", DW_SPLITTER_LOOPS},
    {"falcon3", DW_SPLITTER_LOOPS},
    {"gemma4", DW_SPLITTER_LOOPS},
    {"gigachat", DW_SPLITTER_LOOPS},
    {"glm4", DW_SPLITTER_LOOPS},
    {"glm5", DW_SPLITTER_LOOPS},
    {"gpt-2", DW_SPLITTER_LOOPS},
    {"granite-docling", DW_SPLITTER_LOOPS},
    {"granite-embed-multi-311m", DW_SPLITTER_LOOPS},
    {"grok-2", DW_SPLITTER_LOOPS},
    {"hunyuan", DW_SPLITTER_LOOPS},
    {"jais", DW_SPLITTER_LOOPS},
    {"jina-de", DW_SPLITTER_LOOPS},
    {"jina-es", DW_SPLITTER_LOOPS},
    {"jina-v1-en", DW_SPLITTER_LOOPS},
    {"jina-v2-code", DW_SPLITTER_LOOPS},
    {"jina-v2-de", DW_SPLITTER_LOOPS},
    {"jina-v2-es", DW_SPLITTER_LOOPS},
    {"jina-v5-nano", DW_SPLITTER_LOOPS},
    {"kimi-k2", DW_SPLITTER_LOOPS},
    {"kormo", DW_SPLITTER_LOOPS},
    {"laguna", DW_SPLITTER_LOOPS},
    {"lfm2", DW_SPLITTER_LOOPS},
    {"llama-bpe", DW_SPLITTER_LOOPS},
    {"llama-v3", DW_SPLITTER_LOOPS},
    {"llama3", DW_SPLITTER_LOOPS},
    {"megrez", DW_SPLITTER_LOOPS},
    {"mellum", DW_SPLITTER_LOOPS},
    {"midm-2.0", DW_SPLITTER_LOOPS},
    {"mmbert", DW_SPLITTER_LOOPS},
    {"modern-bert", DW_SPLITTER_LOOPS},
    {"mpt", DW_SPLITTER_LOOPS},
    {"olmo", DW_SPLITTER_LOOPS},
    {"phi-2", DW_SPLITTER_LOOPS},
    {"pixtral", DW_SPLITTER_LOOPS},
    {"qwen2", DW_SPLITTER_LOOPS},
    {"qwen35", DW_SPLITTER_LOOPS},
    {"roberta-bpe", DW_SPLITTER_LOOPS},
    {"sarvam-moe", DW_SPLITTER_LOOPS},
    {"smaug-bpe", DW_SPLITTER_LOOPS},
    {"solar-open", DW_SPLITTER_LOOPS},
    {"stablelm2", DW_SPLITTER_LOOPS},
    {"trillion", DW_SPLITTER_LOOPS},
    /* a loop, and patterns that match single characters */
    {"codeshell", DW_SPLITTER_LOOPS},
    {"command-r", DW_SPLITTER_LOOPS},
    {"exaone", DW_SPLITTER_LOOPS},
    {"mellum2", DW_SPLITTER_LOOPS},
    {"minerva-7b", DW_SPLITTER_LOOPS},
    {"refact", DW_SPLITTER_LOOPS},
    {"smollm", DW_SPLITTER_LOOPS},
    {"starcoder", DW_SPLITTER_LOOPS},
    /* std::regex */
    {"afmoe", DW_SPLITTER_REGEX},
    {"bailingmoe", DW_SPLITTER_REGEX},
    {"bailingmoe2", DW_SPLITTER_REGEX},
    {"bloom", DW_SPLITTER_REGEX},
    {"chameleon", DW_SPLITTER_REGEX},
    {"cohere2moe", DW_SPLITTER_REGEX},
    {"deepseek-coder", DW_SPLITTER_REGEX},
    {"deepseek-llm", DW_SPLITTER_REGEX_SPACES},
    {"deepseek-v3", DW_SPLITTER_REGEX},
    {"default", DW_SPLITTER_REGEX},
    {"exaone-moe", DW_SPLITTER_REGEX_LINES},
    {"falcon", DW_SPLITTER_REGEX},
    {"gpt-4o", DW_SPLITTER_REGEX},
    {"gpt3-finnish", DW_SPLITTER_REGEX},
    {"granite-embed-multi-97m", DW_SPLITTER_REGEX},
    {"hunyuan-dense", DW_SPLITTER_REGEX},
    {"hy_v4", DW_SPLITTER_REGEX},
    {"jais-2", DW_SPLITTER_REGEX},
    {"joyai-llm", DW_SPLITTER_REGEX},
    {"kanana2", DW_SPLITTER_REGEX},
    {"llada-moe", DW_SPLITTER_REGEX},
    {"llama4", DW_SPLITTER_REGEX},
    {"minicpm5", DW_SPLITTER_REGEX},
    {"minimax-m2", DW_SPLITTER_REGEX},
    {"poro-chat", DW_SPLITTER_REGEX},
    {"seed-coder", DW_SPLITTER_REGEX},
    {"spark2_5", DW_SPLITTER_REGEX},
    {"superbpe", DW_SPLITTER_REGEX_DIGITS},
    {"talkie", DW_SPLITTER_REGEX},
    {"tekken", DW_SPLITTER_REGEX},
    {"tiny_aya", DW_SPLITTER_REGEX},
    {"ufakzeka", DW_SPLITTER_REGEX},
    {"viking", DW_SPLITTER_REGEX},
    {"youtu", DW_SPLITTER_REGEX},
};
enum { N_SPLITTERS = sizeof splitters / sizeof splitters[0] };

bool dw_splitter_find(const char *name, size_t size, dw_splitter_kind *kind) {
    for (size_t i = 0; i < N_SPLITTERS; i++) {
        if (strlen(splitters[i].name) != size || memcmp(splitters[i].name, name, size) != 0) continue;
        *kind = splitters[i].kind;
        return true;
    }
    return false;
}

const char *dw_splitter_at(size_t index) { return index < N_SPLITTERS ? splitters[index].name : NULL; }

/* --- what a text costs ------------------------------------------------------------------------------------------ */

typedef enum class_of { CLASS_SPACE, CLASS_LETTER, CLASS_STOP, CLASS_DIGIT, CLASS_OTHER } class_of;

static class_of classify(uint32_t point) {
    if (point == ' ' || (point >= '\t' && point <= '\r') || point == 0x85) return CLASS_SPACE;
    switch (utf8proc_category((utf8proc_int32_t)point)) {
    case UTF8PROC_CATEGORY_ZS: case UTF8PROC_CATEGORY_ZL: case UTF8PROC_CATEGORY_ZP: return CLASS_SPACE;
    case UTF8PROC_CATEGORY_LU: case UTF8PROC_CATEGORY_LL: case UTF8PROC_CATEGORY_LT: case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: return CLASS_LETTER;
    case UTF8PROC_CATEGORY_ND: case UTF8PROC_CATEGORY_NL: case UTF8PROC_CATEGORY_NO: return CLASS_DIGIT;
    default: break;
    }
    switch (point) { /* where the pattern of Bloom and its kin ends a word */
    case '.':
    case ',':
    case '!':
    case '?':
    case 0x2026:
    case 0x3002:
    case 0xff0c:
    case 0x3001:
    case 0x964:
    case 0x6d4:
    case 0x60c: return CLASS_STOP;
    default: return CLASS_OTHER;
    }
}

/* Whether every pattern of the kind ends a word between two such characters, or lets at most a fixed number of
 * characters through: so a word is never longer than two stretches. */
static bool parts(class_of before, class_of after) {
    if ((before == CLASS_SPACE) != (after == CLASS_SPACE)) return true;
    return (before == CLASS_LETTER && after == CLASS_STOP) || (before == CLASS_STOP && after == CLASS_LETTER);
}

dw_splitter_cost dw_splitter_measure(dw_splitter_kind kind, const char *text, size_t length) {
    dw_splitter_cost cost = {0};
    if (kind == DW_SPLITTER_LOOPS) return cost;
    class_of squared = kind == DW_SPLITTER_REGEX_SPACES   ? CLASS_SPACE
                       : kind == DW_SPLITTER_REGEX_DIGITS ? CLASS_DIGIT
                                                          : CLASS_OTHER;
    class_of before = CLASS_OTHER;
    uint64_t stretch = 0, run = 0;
    for (size_t at = 0; at < length;) {
        uint32_t point;
        at += dw_utf8_step(text + at, length - at, &point);
        class_of now = classify(point);
        bool joins = kind == DW_SPLITTER_REGEX_LINES && now != CLASS_STOP && before != CLASS_STOP && point != '\n' &&
                     point != '\r';
        if (parts(before, now) && !joins) stretch = 0;
        stretch++;
        run = now == squared ? run + 1 : 0;
        if (squared != CLASS_OTHER) cost.squares += run * 2; /* the square is the sum of the odd numbers */
        if (stretch > cost.stretch) cost.stretch = stretch;
        before = now;
    }
    return cost;
}

dw_status dw_splitter_check(const dw_splitter_cost *cost, dw_error *err) {
    if (cost->stretch > DW_TEXT_STRETCH_CHARS_MAX)
        return dw_fail(err, DW_E_LIMIT,
                       "%" PRIu64
                       " characters of the text have no place to end a word: at most %u are tokenized at once",
                       cost->stretch, DW_TEXT_STRETCH_CHARS_MAX);
    if (cost->squares > squares_max)
        return dw_fail(err, DW_E_LIMIT,
                       "the text has runs of one kind of character that are too long to tokenize at once");
    return DW_OK;
}
