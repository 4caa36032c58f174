/* reader.c: reads a text into a conversation of an exact length, then continues it. `driftwood demo` measures freezing and thawing with it:
 * an actor with as many tokens as one wants, and nothing else going on.
 *
 *   read N\nTEXT    a new conversation: the first N tokens of the text, all evaluated but the last, as after an answer
 *   go N            makes N tokens more (the likeliest ones), streaming them
 */
#include <stdlib.h>
#include <string.h>

#include "dw.h"

enum { TOKENS_MAX = 32768, TEXT_BYTES_MAX = 8192 };

static dw_session session;
static int32_t tokens[TOKENS_MAX];
static uint32_t n_tokens;

/* Makes up to n tokens behind the session's log and replies with their text. Endings are ignored: the length is what counts here. */
static int32_t go(uint32_t n) {
    static char text[TEXT_BYTES_MAX];
    dw_generation generation = dw_generation_defaults();
    generation.n_max = n;
    generation.sampling = (dw_sampling_options){.temperature = 0};
    generation.emit = true;
    generation.ignore_end = true;
    generation.text = text;
    generation.text_capacity = sizeof text;
    int32_t status = dw_generate(&session, &generation);
    return status < 0 ? status : dw_reply(text, generation.text_bytes);
}

static int32_t read_text(const char *message) {
    char *text;
    unsigned long n = strtoul(message, &text, 10);
    if (n < 2 || n > TOKENS_MAX || *text != '\n') return dw_reply_text("error=usage: read N, from 2 on, and the text on the next line");
    uint32_t n_found = 0;
    int32_t status = dw_session_close(&session);
    if (status == DW_OK) status = dw_session_open(NULL, 1, 0, &session);
    if (status == DW_OK) status = dw_tokenize(&session, text + 1, (uint32_t)strlen(text + 1), DW_FLAG_SPECIAL, tokens, TOKENS_MAX, &n_found);
    if (status < 0) return status;
    if (n_found < n) return dw_replyf("error=the text has %u tokens only", n_found);
    n_tokens = (uint32_t)n;
    status = dw_forward(&session, tokens, n_tokens - 1, NULL, 0);
    if (status == DW_OK) status = dw_session_sync(&session, tokens, n_tokens, NULL);
    return status < 0 ? status : dw_replyf("tokens=%u", n_tokens);
}

int32_t dw_receive(void) {
    uint32_t size = 0;
    char *message = dw_message_copy(&size);
    if (!message) return DW_E_NO_MEMORY;
    int32_t status;
    if (strncmp(message, "read ", 5) == 0) status = read_text(message + 5);
    else if (!session.handle) status = dw_reply_text("error=read something first");
    else if (strncmp(message, "go ", 3) == 0) status = go((uint32_t)strtoul(message + 3, NULL, 10));
    else status = dw_reply_text("error=read N and a text, or go N");
    free(message);
    return status;
}
