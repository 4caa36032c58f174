/* turns.c: giving messages to an actor, watching it answer, and saying what happened. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "os/os.h"

/* --- Ctrl-C ---------------------------------------------------------------------------------------------------- */

/* The signal handler only sets a flag, and the turn occupies the main thread: somebody else has to look at the flag. */
struct dw_interrupter {
    dw_os_thread *thread;
    dw_os_mutex *mutex;
    dw_os_condition *condition;
    dw_actor *actor;       /* whose turn is running, or NULL; under the mutex, as all below */
    uint64_t turn;         /* its number */
    unsigned n_interrupts; /* in this turn */
    bool quit;
};

enum { INTERRUPT_POLL_NS = 20 * 1000 * 1000 };

static void watch_for_interrupts(void *argument) {
    struct dw_interrupter *i = argument;
    dw_os_mutex_lock(i->mutex);
    while (!i->quit) {
        if (!i->actor) {
            dw_os_condition_wait(i->condition, i->mutex);
            continue;
        }
        (void)dw_os_condition_wait_until(i->condition, i->mutex, dw_os_monotonic_ns() + INTERRUPT_POLL_NS);
        if (!i->actor || !dw_os_interrupted(true)) continue;
        /* First politely: the answer ends as if by length and is kept. Then firmly: the turn is dropped. */
        dw_status asked = ++i->n_interrupts == 1 ? dw_actor_interrupt(i->actor, i->turn)
                                                 : dw_actor_stop(i->actor, i->turn);
        if (asked != DW_OK) dw_log(DW_LOG_DEBUG, "interrupt", "turn=%llu is over", (unsigned long long)i->turn);
    }
    dw_os_mutex_unlock(i->mutex);
}

dw_status dw_watch_interrupts(dw_watch *watch, dw_error *err) {
    struct dw_interrupter *i = calloc(1, sizeof *i);
    if (!i) return dw_fail(err, DW_E_NO_MEMORY, "no memory to watch for Ctrl-C");
    dw_status status = dw_os_mutex_create(&i->mutex, err);
    if (status == DW_OK) status = dw_os_condition_create(&i->condition, err);
    if (status == DW_OK) status = dw_os_thread_create("interrupts", 0, watch_for_interrupts, i, &i->thread, err);
    if (status != DW_OK) {
        dw_os_condition_destroy(i->condition);
        dw_os_mutex_destroy(i->mutex);
        free(i);
        return status;
    }
    watch->interrupter = i;
    dw_os_catch_interrupts();
    return DW_OK;
}

/* Says whose turn runs from now on; NULL = nobody's. Returns the number of interrupts of the turn that ended. */
static unsigned set_running(dw_watch *watch, dw_actor *actor) {
    struct dw_interrupter *i = watch->interrupter;
    if (!i) return 0;
    dw_os_mutex_lock(i->mutex);
    unsigned count = i->n_interrupts;
    i->actor = actor;
    i->turn = actor ? dw_actor_next_turn(actor) : 0;
    i->n_interrupts = 0;
    dw_os_condition_signal(i->condition);
    dw_os_mutex_unlock(i->mutex);
    return count;
}

void dw_watch_deinit(dw_watch *watch) {
    struct dw_interrupter *i = watch->interrupter;
    dw_writer_deinit(&watch->emitted);
    if (!i) return;
    dw_os_mutex_lock(i->mutex);
    i->quit = true;
    dw_os_condition_signal(i->condition);
    dw_os_mutex_unlock(i->mutex);
    dw_os_thread_join(i->thread);
    dw_os_condition_destroy(i->condition);
    dw_os_mutex_destroy(i->mutex);
    free(i);
    watch->interrupter = NULL;
}

/* --- watching -------------------------------------------------------------------------------------------------- */

static void on_text(void *context, const char *text, size_t size) {
    dw_watch *watch = context;
    if (size == 0) return;
    bool first = watch->emitted_bytes == 0;
    if (first) watch->first_text_ns = dw_os_monotonic_ns() - watch->started_ns;
    if (watch->stream) {
        size_t skipped = first && watch->trim && text[0] == ' ';
        if (first && watch->label) dw_cli_say_styled(watch->cli, DW_STYLE_NAME, "%s", watch->label);
        dw_cli_say_text(watch->cli, text + skipped, size - skipped);
    }
    watch->emitted_bytes += size;
    watch->last_byte = text[size - 1];
    if (watch->emitted_bytes <= DW_MESSAGE_BYTES_MAX) dw_write_bytes(&watch->emitted, text, size);
}

/* A line of the program's own, which must not drive the terminal. */
static void say_program_line(const char *text, size_t size) {
    char plain[DW_PLAIN_BYTES(DW_LOG_LINE_BYTES_MAX)];
    dw_plain_text(text, (size_t)dw_min_u64(size, DW_LOG_LINE_BYTES_MAX), false, plain, sizeof plain);
    (void)fprintf(stderr, "program: %s\n", plain);
}

static void on_log(void *context, int level, const char *text, size_t size) {
    dw_watch *watch = context;
    while (size > 0 && (text[size - 1] == '\n' || text[size - 1] == '\r')) size--;
    /* The guest's log is its own; it is shown when it is about trouble, or when the user asked for logs. */
    if (level <= DW_LOG_WARN || dw_log_enabled(DW_LOG_INFO)) {
        say_program_line(text, size);
        if (level <= DW_LOG_WARN) dw_plain_text(text, size, false, watch->trouble, sizeof watch->trouble);
        return;
    }
    char *place = watch->said[watch->n_said++ % (sizeof watch->said / sizeof watch->said[0])];
    (void)snprintf(place, sizeof watch->said[0], "%.*s", (int)dw_min_u64(size, sizeof watch->said[0] - 1), text);
}

/* What a program wrote before it failed is what it has to say about that: a panic's text, an assertion's. */
static void say_last_lines(dw_watch *watch) {
    const size_t room = sizeof watch->said / sizeof watch->said[0];
    for (size_t i = watch->n_said > room ? watch->n_said - room : 0; i < watch->n_said; i++) {
        const char *line = watch->said[i % room];
        say_program_line(line, strlen(line));
    }
    watch->n_said = 0;
}

enum { TURN_LIMIT_DEFAULT_S = 600 };

dw_watch dw_watch_of(const dw_cli *cli, const dw_args *args) {
    uint64_t seconds = dw_min_u64(dw_args_number(args, "turn-limit", TURN_LIMIT_DEFAULT_S), UINT64_C(1) << 32);
    dw_watch watch = {.cli = cli, .stream = true, .turn_limit_ns = seconds * UINT64_C(1000000000)};
    dw_writer_init(&watch.emitted);
    return watch;
}

dw_observer dw_watch_observer(dw_watch *watch) {
    return (dw_observer){.on_text = on_text, .on_log = on_log, .context = watch};
}

/* --- turns ----------------------------------------------------------------------------------------------------- */

dw_status dw_take_turn(dw_watch *watch, dw_message message, uint64_t realtime_ns, dw_turn_result *result,
                       dw_error *err) {
    *result = (dw_turn_result){0};
    dw_status status = dw_actor_send(watch->actor, message.text, message.size, realtime_ns, err);
    if (status != DW_OK) return status;
    dw_writer_deinit(&watch->emitted);
    dw_writer_init(&watch->emitted);
    watch->n_said = 0;
    watch->trouble[0] = '\0';
    watch->emitted_bytes = 0;
    watch->first_text_ns = 0;
    watch->last_byte = '\n';
    (void)set_running(watch, watch->actor);
    watch->started_ns = dw_os_monotonic_ns();
    uint64_t deadline_ns = watch->turn_limit_ns ? watch->started_ns + watch->turn_limit_ns : UINT64_MAX;
    status = dw_actor_turn(watch->actor, deadline_ns, result, err);
    watch->ended_by_user = set_running(watch, NULL) > 1;
    bool by_program = status == DW_E_TRAP || status == DW_E_EXIT || status == DW_E_STATE || status == DW_E_DEADLINE;
    if (by_program) say_last_lines(watch);
    if (by_program && watch->cli->json && watch->trouble[0]) { /* a script reads the object alone */
        const dw_error why = *err;
        return dw_fail(err, status, "%.250s: %s", why.text, watch->trouble);
    }
    if (status == DW_E_DEADLINE)
        return dw_fail(err, status, "the turn took longer than %llu seconds (--turn-limit)",
                       (unsigned long long)(watch->turn_limit_ns / 1000000000u));
    return status;
}

void dw_turn_free(dw_turn_result *result) {
    free(result->reply);
    result->reply = NULL;
}

/* Without the blanks at both ends: a model's answer begins with one. */
static dw_message trimmed(dw_message text) {
    while (text.size > 0 && (unsigned char)text.text[0] <= ' ') text.text++, text.size--;
    while (text.size > 0 && (unsigned char)text.text[text.size - 1] <= ' ') text.size--;
    return text;
}

static bool was_streamed(const dw_watch *watch, const dw_turn_result *result) {
    if (!watch->stream || watch->emitted_bytes == 0) return false;
    dw_message reply = trimmed((dw_message){result->reply ? result->reply : "", result->reply_size});
    dw_message emitted = trimmed((dw_message){(const char *)watch->emitted.data, watch->emitted.size});
    return reply.size == 0 || (reply.size == emitted.size && memcmp(reply.text, emitted.text, reply.size) == 0);
}

void dw_say_reply(const dw_watch *watch, const dw_turn_result *result) {
    bool streamed = was_streamed(watch, result);
    if (!streamed && watch->stream && watch->emitted_bytes > 0 && watch->last_byte != '\n')
        dw_cli_say(watch->cli, "\n");
    if (!streamed && result->reply_size > 0) {
        if (watch->label) dw_cli_say_styled(watch->cli, DW_STYLE_NAME, "%s", watch->label);
        dw_cli_say_text(watch->cli, result->reply, result->reply_size);
    }
    char last = streamed ? watch->last_byte : result->reply_size > 0 ? result->reply[result->reply_size - 1] : '\n';
    if (last != '\n') dw_cli_say(watch->cli, "\n");
}

json_t *dw_json_turn(const dw_watch *watch, dw_message message, const dw_turn_result *r) {
    return json_pack("{s:o, s:o, s:I, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I}", "message",
                     dw_json_text(message.text, message.size), "reply",
                     dw_json_text(r->reply ? r->reply : "", r->reply ? r->reply_size : 0), "turn", (json_int_t)r->turn,
                     "run_ms", dw_json_ms(r->run_ns), "commit_ms", dw_json_ms(r->commit_ns), "first_text_ms",
                     watch->first_text_ns ? dw_json_ms(watch->first_text_ns) : json_null(), "tokens_evaluated",
                     (json_int_t)r->tokens_evaluated, "tokens_shared", (json_int_t)r->tokens_shared, "tokens_generated",
                     (json_int_t)r->tokens_generated, "dirty_bytes", (json_int_t)r->dirty_bytes, "enters",
                     (json_int_t)r->enters, "copied_bytes", (json_int_t)r->copied_bytes);
}

dw_status dw_take_turns(dw_watch *watch, const char *const *messages, size_t count, uint64_t realtime_ns, json_t *turns,
                        dw_error *err) {
    dw_status status = DW_OK;
    for (size_t i = 0; status == DW_OK && i < count; i++) {
        dw_turn_result result;
        uint64_t at = realtime_ns ? realtime_ns + i * UINT64_C(1000000000) : 0;
        const dw_message message = {messages[i], strlen(messages[i])};
        status = dw_take_turn(watch, message, at, &result, err);
        dw_say_reply(watch, &result);
        if (status == DW_OK && turns && json_array_append_new(turns, dw_json_turn(watch, message, &result)) != 0) {
            status = dw_fail(err, DW_E_NO_MEMORY, "no memory for the result");
        }
        dw_turn_free(&result);
    }
    return status;
}

/* --- saying what happened -------------------------------------------------------------------------------------- */

json_t *dw_json_digest(const dw_actor_digest *digest) {
    return json_pack("{s:o, s:o, s:o, s:o}", "memory", dw_json_hash(&digest->memory), "kv", dw_json_hash(&digest->kv),
                     "tokens", dw_json_hash(&digest->tokens), "logits", dw_json_hash(&digest->logits));
}

json_t *dw_json_kv(const dw_session_pool_use *use) {
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "sessions", (json_int_t)use->sessions, "kv_bytes",
                     (json_int_t)use->kv_bytes, "own_bytes", (json_int_t)use->own_bytes, "shared_bytes",
                     (json_int_t)use->shared_bytes, "logits_bytes", (json_int_t)use->logits_bytes, "budget_bytes",
                     (json_int_t)use->budget_bytes, "evictions", (json_int_t)use->evictions, "refused",
                     (json_int_t)use->refused);
}

json_t *dw_json_use(const dw_actor_use *use) {
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "memory_bytes", (json_int_t)use->memory_bytes,
                     "sessions", (json_int_t)use->sessions, "tokens", (json_int_t)use->tokens, "rows",
                     (json_int_t)use->rows,
                     "kv_bytes", (json_int_t)use->kv_bytes, "kv_own_bytes", (json_int_t)use->kv_own_bytes,
                     "kv_shared_bytes", (json_int_t)use->kv_shared_bytes, "logits_bytes",
                     (json_int_t)use->logits_bytes);
}

json_t *dw_json_freeze(const char *path, const dw_checkpoint_report *r) {
    return json_pack("{s:o, s:o, s:I, s:I, s:I, s:o, s:o, s:o}", "file", dw_json_text(path, strlen(path)), "identity",
                     dw_json_hash(&r->identity), "file_bytes", (json_int_t)r->file_bytes, "occupied_bytes",
                     (json_int_t)r->occupied_bytes, "kv_bytes", (json_int_t)r->kv_bytes, "write_ms",
                     dw_json_ms(r->write_ns), "hash_ms", dw_json_ms(r->hash_ns), "sync_ms", dw_json_ms(r->sync_ns));
}

json_t *dw_json_thaw(const dw_thaw_report *r) {
    return json_pack("{s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:b, s:o}", "open_ms",
                     dw_json_ms(r->open_ns), "verify_ms", dw_json_ms(r->verify_ns), "map_ms", dw_json_ms(r->map_ns),
                     "tokens",
                     (json_int_t)r->tokens, "tokens_reused", (json_int_t)r->tokens_reused, "tokens_recomputed",
                     (json_int_t)r->tokens_recomputed, "tokens_pending", (json_int_t)r->tokens_pending, "kv_bytes",
                     (json_int_t)r->kv_bytes, "memory_bytes", (json_int_t)r->memory_bytes, "logits_bytes",
                     (json_int_t)r->logits_bytes, "verified", (int)r->verified, "exact", (int)r->exact,
                     "profile_difference",
                     dw_json_text(r->profile_difference, strlen(r->profile_difference)));
}

void dw_say_freeze(const dw_cli *cli, const char *path, const dw_checkpoint_report *r) {
    char size[DW_SIZE_TEXT_BYTES], hex[DW_HASH_HEX_BYTES];
    dw_hash_hex(&r->identity, hex);
    dw_cli_say(cli, "frozen to %s: %s on disk in %.1f ms, checkpoint %.12s\n", path,
               dw_size_text(r->occupied_bytes, size), dw_ms(r->write_ns + r->hash_ns + r->sync_ns), hex);
}

void dw_say_thaw(const dw_cli *cli, const dw_thaw_report *r) {
    char kv[DW_SIZE_TEXT_BYTES], memory[DW_SIZE_TEXT_BYTES];
    dw_cli_say(cli,
               "thawed: %u tokens, %u reused, %u recomputed; %s KV and %s memory mapped in %.3f ms (opened in %.1f ms, "
               "%s in %.1f ms)\n",
               r->tokens, r->tokens_reused, r->tokens_recomputed, dw_size_text(r->kv_bytes, kv),
               dw_size_text(r->memory_bytes, memory), dw_ms(r->map_ns), dw_ms(r->open_ns),
               r->verified ? "verified" : "not verified", dw_ms(r->verify_ns));
    if (r->tokens > 0 && r->exact)
        dw_cli_say(cli, "the continuation is exact: bit for bit what it would have been without the freeze\n");
    if (r->tokens > 0 && !r->exact)
        dw_cli_say(cli, "the continuation is not bit-exact here: %s\n", r->profile_difference);
}

void dw_say_digest(const dw_cli *cli, const dw_actor_digest *digest) {
    char memory[DW_HASH_HEX_BYTES], kv[DW_HASH_HEX_BYTES], tokens[DW_HASH_HEX_BYTES], logits[DW_HASH_HEX_BYTES];
    dw_hash_hex(&digest->memory, memory);
    dw_hash_hex(&digest->kv, kv);
    dw_hash_hex(&digest->tokens, tokens);
    dw_hash_hex(&digest->logits, logits);
    dw_cli_say(cli, "memory  %s\nkv      %s\ntokens  %s\nlogits  %s\n", memory, kv, tokens, logits);
}

/* --- lines ----------------------------------------------------------------------------------------------------- */

/* What ends a line: 0 for its own end, else the status that ends the reading. */
static dw_status end_of_line(int byte, size_t size, dw_line *kind, dw_error *err) {
    *kind = byte == '\n' || size > 0 ? DW_LINE_TEXT : DW_LINE_END;
    if (byte != EOF || !ferror(stdin)) return DW_OK;
    clearerr(stdin);
    /* Ctrl-C makes a read from the terminal fail on purpose. */
    if (!dw_os_interrupted(true)) return dw_fail(err, DW_E_IO, "cannot read standard input");
    *kind = DW_LINE_INTERRUPTED;
    return DW_OK;
}

dw_status dw_read_line(dw_line *kind, char **out, size_t *out_size, dw_error *err) {
    DW_VEC(char) line = {0}; /* there is always room for the final NUL */
    uint64_t length = 0;
    dw_status room = DW_VEC_RESERVE(&line, 1, DW_MESSAGE_BYTES_MAX + 1);
    int byte;
    *out = NULL;
    *out_size = 0;
    while ((byte = getchar()) != EOF && byte != '\n') {
        if (length++ >= DW_MESSAGE_BYTES_MAX || room != DW_OK) continue;
        line.items[line.count++] = (char)byte;
        room = DW_VEC_RESERVE(&line, 1, DW_MESSAGE_BYTES_MAX + 1);
    }
    dw_status status = end_of_line(byte, line.count, kind, err);
    if (status == DW_OK && length > DW_MESSAGE_BYTES_MAX) {
        status = dw_fail(err, DW_E_LIMIT,
                         "a line of standard input has %llu bytes, more than the %llu that a message may have",
                         (unsigned long long)length, (unsigned long long)DW_MESSAGE_BYTES_MAX);
    }
    if (status == DW_OK && room != DW_OK) status = dw_fail(err, room, "no memory for a line of standard input");
    if (status != DW_OK || *kind != DW_LINE_TEXT) {
        DW_VEC_DEINIT(&line);
        return status;
    }
    if (line.count > 0 && line.items[line.count - 1] == '\r') line.count--;
    line.items[line.count] = '\0';
    *out = line.items;
    *out_size = line.count;
    return DW_OK;
}
