/* demo_table.c: what a checkpoint costs and saves, by length of the conversation. */
#include <stdlib.h>
#include <string.h>

#include "cli/demo.h"
#include "os/os.h"

/* --- a text ---------------------------------------------------------------------------------------------------- */

/* Grows a plain text about a river from a few tables, as long as anybody likes; about four bytes a token. */
static size_t write_day(char *out, size_t capacity, unsigned day) {
    static const char *const winds[] = {"the west",   "the sea",      "the hills",
                                        "the north",  "the old town", "nowhere in particular",
                                        "the islands"};
    static const char *const birds[] = {"heron", "gull", "swallow", "kingfisher", "crow", "sandpiper"};
    static const char *const finds[] = {"a plank of oak",          "a green bottle",       "the rib of a boat",
                                        "a rope with three knots", "an empty barrel",      "a door without a house",
                                        "a carved spoon",          "a crate of wet paper", "the branch of a pine"};
    static const char *const people[] = {"The ferryman", "A girl with a red hat", "The schoolteacher", "My neighbour",
                                         "An old sailor"};
    static const char *const deeds[] = {"said that rain would come",     "asked what it was worth",
                                        "laughed and walked on",         "drew it in a notebook",
                                        "helped me carry it home",       "told me where it had grown",
                                        "counted the rings in the wood", "took a piece of it along"};
#define PICK(table, n) table[(n) % (sizeof table / sizeof table[0])]
    /* Different strides make the sentences meet in ever new ways. */
    int written = snprintf(
        out, capacity,
        "On day %u the wind came from %s, and the water stood %u hands below the bridge. A %s watched me while I "
        "pulled %s out of the river. %s %s. In the evening I wrote it down, as I do, and put %s beside the fire to "
        "dry.\n",
        day, PICK(winds, day * 3), 2 + day * 5 % 7, PICK(birds, day * 5 + day / 6), PICK(finds, day * 4 + day / 9),
        PICK(people, day * 2 + day / 5), PICK(deeds, day * 7 + day / 8), PICK(finds, day + 2));
#undef PICK
    return written < 0 ? 0 : dw_min_u64((uint64_t)written, capacity - 1);
}

/* "read N" and a text that surely has N tokens: more than six bytes for each. */
static char *reading_message(uint32_t n_tokens) {
    const size_t capacity = (size_t)n_tokens * 7 + 1024;
    char *message = malloc(capacity);
    if (!message) return NULL;
    int begun = snprintf(message, capacity, "read %u\n", n_tokens);
    size_t size = begun < 0 ? 0 : (size_t)begun;
    for (unsigned day = 1; size + 512 < capacity; day++) size += write_day(message + size, capacity - size, day);
    return message;
}

/* --- turns ----------------------------------------------------------------------------------------------------- */

/* A turn of the reader; a reply that begins with "error=" is its refusal. */
static dw_status ask_reader(dw_watch *watch, const char *text, dw_error *err) {
    dw_turn_result result;
    dw_status status = dw_take_turn(watch, (dw_message){text, strlen(text)}, 0, &result, err);
    if (status == DW_OK && result.reply && strncmp(result.reply, "error=", 6) == 0) {
        status = dw_fail(err, DW_E_STATE, "the reader refused: %.150s", result.reply + 6);
    }
    /* A token may be half a character that is not text yet; then the whole turn is what it took. */
    if (watch->first_text_ns == 0) watch->first_text_ns = result.run_ns;
    dw_turn_free(&result);
    return status;
}

static uint64_t ns_of(const json_t *object, const char *name) {
    return (uint64_t)(json_number_value(json_object_get(object, name)) * 1e6);
}

static dw_status measure_thaw(const dw_demo *demo, const char *file, dw_demo_row *row, dw_error *err) {
    dw_demo_child child;
    dw_status status = dw_demo_thaw_elsewhere(demo, file, "go 1", 0, &child, err);
    if (status != DW_OK) return status;
    const json_t *turn = json_array_get(json_object_get(child.report, "turns"), 0);
    const json_t *first = json_object_get(turn, "first_text_ms");
    row->process_ns = child.process_ns;
    row->open_ns = ns_of(child.report, "open_ms");
    row->verify_ns = ns_of(child.report, "verify_ms");
    row->ready_ns = ns_of(child.report, "map_ms");
    row->first_token_ns = row->ready_ns + ns_of(turn, json_is_number(first) ? "first_text_ms" : "run_ms");
    row->tokens_reused = (uint32_t)json_integer_value(json_object_get(child.report, "tokens_reused"));
    row->tokens_recomputed = (uint32_t)json_integer_value(json_object_get(child.report, "tokens_recomputed"));
    row->exact = json_is_true(json_object_get(child.report, "exact"));
    json_decref(child.report);
    return DW_OK;
}

/* --- forks ----------------------------------------------------------------------------------------------------- */

static dw_status anonymous_now(int64_t *out, dw_error *err) {
    dw_os_memory_use use = {0};
    dw_status status = dw_os_memory_use_now(&use, err);
    *out = (int64_t)use.anonymous;
    return status;
}

/* A fork that makes 32 tokens: when the first one came, and what memory of its own it needed by then. */
static dw_status fork_once(const dw_demo *demo, dw_actor *parent, dw_demo_fork *out, dw_error *err) {
    dw_watch watch = {.cli = demo->cli};
    dw_observer observer = dw_watch_observer(&watch);
    dw_fork_report report;
    dw_actor_use use;
    int64_t before = 0, after = 0;
    dw_status status = anonymous_now(&before, err);
    if (status == DW_OK) status = dw_actor_fork(parent, "demo-fork", &watch.actor, &report, err);
    if (status != DW_OK) return status;
    dw_actor_observe(watch.actor, &observer);
    status = ask_reader(&watch, "go 1", err);
    uint64_t first_ns = watch.first_text_ns;
    if (status == DW_OK) status = ask_reader(&watch, "go 31", err);
    if (status == DW_OK) status = anonymous_now(&after, err);
    if (status == DW_OK) status = dw_actor_use_now(watch.actor, &use, err);
    if (status == DW_OK) {
        *out = (dw_demo_fork){.tokens = report.tokens, .tokens_made = 32, .ns = report.ns,
                              .first_token_ns = report.ns + first_ns, .copy_bytes = report.kv_bytes + use.memory_bytes,
                              .kv_own_bytes = use.kv_own_bytes, .added_bytes = after - before};
    }
    dw_actor_destroy(watch.actor);
    dw_watch_deinit(&watch);
    return status;
}

/* The first fork of a process also pays for what the allocator and the engine keep from then on, so the second one is
 * reported. */
static dw_status measure_fork(const dw_demo *demo, dw_actor *parent, dw_demo_fork *out, dw_error *err) {
    dw_status status = fork_once(demo, parent, out, err);
    return status == DW_OK ? fork_once(demo, parent, out, err) : status;
}

/* --- rows ------------------------------------------------------------------------------------------------------ */

static dw_status freeze_row(dw_actor *actor, const char *file, dw_demo_row *row, dw_error *err) {
    dw_checkpoint_report report;
    uint64_t start = dw_os_monotonic_ns();
    dw_status status = dw_actor_freeze(actor, file, NULL, &report, err);
    row->freeze_ns = dw_os_monotonic_ns() - start;
    if (status != DW_OK) return status;
    row->kv_bytes = report.kv_bytes;
    row->file_bytes = report.file_bytes;
    return DW_OK;
}

/* The same tokens without a checkpoint, up to the next one: by an actor that belongs to nobody else, so that it finds
 * no rows to share. */
static dw_status read_again(const dw_demo *demo, dw_program *program, const char *message, dw_demo_row *row,
                            dw_error *err) {
    dw_watch watch = {.cli = demo->cli};
    dw_observer observer = dw_watch_observer(&watch);
    dw_actor_options options = {.name = "demo-again", .observer = &observer};
    dw_turn_result result;
    dw_status status = dw_actor_create(demo->runtime, program, &options, &watch.actor, err);
    uint64_t start = dw_os_monotonic_ns();
    if (status == DW_OK) status = dw_take_turn(&watch, (dw_message){message, strlen(message)}, 0, &result, err);
    if (status == DW_OK && result.tokens_evaluated + 1 != row->tokens) {
        status = dw_fail(err, DW_E_INTERNAL, "%llu of %u tokens were read again",
                         (unsigned long long)result.tokens_evaluated, row->tokens);
    }
    uint64_t read_ns = dw_os_monotonic_ns() - start;
    if (status == DW_OK) dw_turn_free(&result);
    if (status == DW_OK) status = ask_reader(&watch, "go 1", err);
    row->reprefill_ns = read_ns + watch.first_text_ns;
    dw_actor_destroy(watch.actor);
    dw_watch_deinit(&watch);
    return status;
}

static dw_status measure_row(const dw_demo *demo, dw_program *program, dw_demo_row *row, dw_demo_fork *fork_result,
                             dw_error *err) {
    dw_watch watch = {.cli = demo->cli};
    dw_observer observer = dw_watch_observer(&watch);
    dw_actor_options options = {.name = "demo-table", .observer = &observer};
    char file[DW_PATH_BYTES], name[32];
    char *message = reading_message(row->tokens);
    (void)snprintf(name, sizeof name, "table-%u.drift", row->tokens);
    dw_status status = message ? dw_path_join(file, demo->folder, name, err)
                               : dw_fail(err, DW_E_NO_MEMORY, "no memory for a text");
    if (status == DW_OK) status = dw_actor_create(demo->runtime, program, &options, &watch.actor, err);
    if (status == DW_OK) status = ask_reader(&watch, message, err);
    if (status == DW_OK) status = freeze_row(watch.actor, file, row, err);
    if (status == DW_OK) status = measure_thaw(demo, file, row, err);
    if (status == DW_OK && fork_result) status = measure_fork(demo, watch.actor, fork_result, err);
    if (status == DW_OK) status = read_again(demo, program, message, row, err);
    if (status == DW_OK) status = dw_os_remove(file, err);
    dw_actor_destroy(watch.actor);
    dw_watch_deinit(&watch);
    free(message);
    return status;
}

dw_status dw_demo_run_table(const dw_demo *demo, bool quick, dw_demo_table *out, dw_error *err) {
    static const uint32_t lengths[DW_DEMO_ROWS] = {100, 1000, 4000};
    const size_t n_rows = quick ? DW_DEMO_ROWS - 1 : DW_DEMO_ROWS;
    const uint32_t context = dw_model_info_view(dw_runtime_model(demo->runtime, NULL))->context_tokens;
    char path[DW_PATH_BYTES];
    dw_program *program = NULL;
    memset(out, 0, sizeof *out);
    dw_status status = dw_find_program(demo->cli, "reader", path, err);
    if (status == DW_OK) status = dw_runtime_load_program(demo->runtime, path, &program, err);
    for (size_t i = 0; status == DW_OK && i < n_rows; i++) {
        if (lengths[i] + 64 > context) break; /* the model's own limit */
        bool last = i + 1 == n_rows || lengths[i + 1] + 64 > context;
        dw_cli_progress(demo->cli, "a conversation of %u tokens ...", lengths[i]);
        out->rows[i].tokens = lengths[i];
        status = measure_row(demo, program, &out->rows[i], last ? &out->fork : NULL, err);
        out->n_rows += status == DW_OK;
    }
    dw_cli_progress(demo->cli, NULL);
    dw_program_release(program);
    return status;
}
