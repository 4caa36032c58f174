/* guest_log.c: what a guest writes to standard error, as lines for the observer. Programs write a line in pieces: a
 * panic's place, its text, its end. What is not a whole line yet is kept, at most DW_LOG_LINE_BYTES_MAX of it, and
 * never longer than the turn. */
#include <stdlib.h>
#include <string.h>

#include "actor/actor_internal.h"

static void deliver_line(dw_actor *actor, const char *text, size_t size) {
    const dw_observer *observer = dw_door_observer(actor->door);
    if (observer->on_log) observer->on_log(observer->context, DW_LOG_INFO, text, size);
}

static void end_line(dw_actor *actor) {
    dw_guest_log *log = &actor->log;
    if (log->size > 0) deliver_line(actor, log->bytes, log->size);
    log->size = 0;
}

/* Part of one line. Without memory it goes out as it is. */
static void add_to_line(dw_actor *actor, const char *text, size_t size) {
    dw_guest_log *log = &actor->log;
    if (!log->bytes) log->bytes = malloc(DW_LOG_LINE_BYTES_MAX);
    if (!log->bytes && size > 0) {
        deliver_line(actor, text, size);
        return;
    }
    while (size > 0) {
        if (log->size == DW_LOG_LINE_BYTES_MAX) end_line(actor);
        size_t n = (size_t)dw_min_u64(size, DW_LOG_LINE_BYTES_MAX - log->size);
        memcpy(log->bytes + log->size, text, n);
        log->size += n;
        text += n;
        size -= n;
    }
}

void dw_actor_log_write(dw_actor *actor, const char *text, size_t size) {
    while (size > 0) {
        const char *end = memchr(text, '\n', size);
        size_t part = end ? (size_t)(end - text) : size;
        add_to_line(actor, text, part);
        if (end) end_line(actor);
        part += end != NULL;
        text += part;
        size -= part;
    }
}

void dw_actor_log_flush(dw_actor *actor) {
    end_line(actor);
    free(actor->log.bytes);
    actor->log.bytes = NULL;
}
