/* keep_test.c: what a keeper is given is the actor: woken from that alone, after every turn, it equals one that was
 * never away (I2, I4); a change costs what the turn changed (I8); what cannot be kept has not happened. */
#include "actor/fixture_model.h"

#include <stdio.h>

#include "actor/actor_internal.h"
#include "actor/keep.h"

enum { PAGE = 4096, PAGES = 65536, STREAMS = 32 };

/* A store in memory, of one actor, and nothing but what changes said. */
typedef struct shelf {
    uint8_t *pages[PAGES];
    uint64_t memory_bytes;
    struct { uint64_t stream, n; uint32_t row_bytes; uint8_t *data; } streams[STREAMS];
    uint8_t *state;
    size_t state_bytes;
    uint64_t turn, last_handled, dropped, pages_changed, rows_changed;
    dw_status refuse;
    dw_status why_dropped;
} shelf;

static dw_error err;

static void shelve_pages(shelf *to, const dw_actor_change *change) {
    to->pages_changed = 0;
    for (size_t i = 0; i < change->n_written; i++) {
        const dw_page_range *range = &change->written[i];
        assert_true(range->offset + range->size <= change->memory_bytes);
        for (uint64_t at = range->offset; at < range->offset + range->size; at += PAGE, to->pages_changed++) {
            uint8_t **page = &to->pages[at / PAGE];
            if (!*page) *page = malloc(PAGE);
            memcpy(*page, change->memory + at, PAGE);
        }
    }
}

static void shelve_rows(shelf *to, const dw_kept_rows *rows) {
    size_t i = 0;
    while (i < STREAMS && to->streams[i].row_bytes && to->streams[i].stream != rows->stream) i++;
    assert_true(i < STREAMS && rows->first <= to->streams[i].n);
    if (rows->first > 0) assert_int_equal(to->streams[i].row_bytes, rows->row_bytes);
    to->streams[i].stream = rows->stream;
    to->streams[i].row_bytes = rows->row_bytes;
    to->streams[i].n = rows->first + rows->n;
    to->streams[i].data = realloc(to->streams[i].data, (size_t)(to->streams[i].n * rows->row_bytes) + 1);
    if (rows->n > 0)
        memcpy(to->streams[i].data + rows->first * rows->row_bytes, rows->data, (size_t)(rows->n * rows->row_bytes));
    if (dw_stream_kind_of(rows->stream) != DW_STREAM_LOGITS) to->rows_changed += rows->n;
}

static void shelve(shelf *to, const dw_actor_change *change) {
    shelve_pages(to, change);
    to->rows_changed = 0;
    for (size_t i = 0; i < change->n_rows; i++) {
        for (size_t k = 0; k < i; k++) assert_true(change->rows[k].stream != change->rows[i].stream);
        shelve_rows(to, &change->rows[i]);
    }
    free(to->state);
    to->state = malloc(change->state_bytes);
    memcpy(to->state, change->state, to->state_bytes = change->state_bytes);
    to->memory_bytes = change->memory_bytes;
    to->turn = change->turn;
    to->last_handled = change->message;
}

static dw_status keep_on_shelf(void *context, const dw_actor_change *changes, size_t n, dw_error *error) {
    shelf *to = context;
    assert_int_equal(n, 1);
    if (to->refuse != DW_OK) return dw_fail(error, to->refuse, "the shelf refuses");
    assert_int_equal(changes[0].turn, to->turn + 1);
    shelve(to, &changes[0]);
    return DW_OK;
}

static dw_status drop_from_shelf(void *context, dw_actor *actor, uint64_t message, const dw_error *why,
                                 dw_error *error) {
    shelf *to = context;
    (void)actor;
    if (to->refuse != DW_OK) return dw_fail(error, to->refuse, "the shelf refuses");
    to->dropped = message;
    to->why_dropped = why->status;
    return DW_OK;
}

static dw_keeper keeper_of(shelf *to) {
    return (dw_keeper){.keep = keep_on_shelf, .drop = drop_from_shelf, .context = to};
}

static void clear_shelf(shelf *of) {
    for (size_t i = 0; i < PAGES; i++) free(of->pages[i]);
    for (size_t i = 0; i < STREAMS; i++) free(of->streams[i].data);
    free(of->state);
    free(of);
}

static shelf *new_shelf(void) {
    shelf *made = calloc(1, sizeof *made);
    assert_non_null(made);
    return made;
}

/* An actor whose birth is on the shelf. */
static dw_actor *kept_actor(fixture *f, const char *name, shelf *to) {
    dw_actor *actor = fixture_actor(f, name);
    dw_actor_change birth;
    dw_keeper keeper = keeper_of(to);
    assert_ok(dw_actor_birth_change(actor, &birth, &err), err);
    assert_int_equal(birth.n_written, 0);
    shelve(to, &birth);
    dw_actor_change_deinit(&birth);
    dw_actor_keep_with(actor, &keeper);
    return actor;
}

/* --- waking -------------------------------------------------------------------------------------------------- */

static dw_status read_pages(void *context, uint64_t offset, uint64_t size, void *out, dw_error *error) {
    const shelf *from = context;
    (void)error;
    for (uint64_t at = 0; at < size; at += PAGE) memcpy((uint8_t *)out + at, from->pages[(offset + at) / PAGE], PAGE);
    return DW_OK;
}

static dw_status read_rows(void *context, uint64_t stream, uint64_t first, uint64_t n, uint32_t row_bytes, void *out,
                           dw_error *error) {
    const shelf *from = context;
    for (size_t i = 0; i < STREAMS; i++) {
        if (from->streams[i].stream != stream || from->streams[i].row_bytes != row_bytes) continue;
        if (first + n > from->streams[i].n) break;
        memcpy(out, from->streams[i].data + first * row_bytes, (size_t)(n * row_bytes));
        return DW_OK;
    }
    return dw_fail(error, DW_E_RANGE, "no such rows");
}

static size_t ranges_of(const shelf *from, dw_page_range *out) {
    size_t n = 0;
    for (uint64_t page = 0; page < from->memory_bytes / PAGE; page++) {
        if (!from->pages[page]) continue;
        if (n > 0 && out[n - 1].offset + out[n - 1].size == page * PAGE) out[n - 1].size += PAGE;
        else out[n++] = (dw_page_range){page * PAGE, PAGE};
    }
    return n;
}

static dw_status wake_with(fixture *f, shelf *from, dw_kept_actor *kept, dw_actor **out) {
    dw_blob *state = NULL;
    dw_thaw_report report;
    dw_page_range *ranges = calloc(PAGES, sizeof *ranges);
    assert_ok(dw_blob_decode(from->state, from->state_bytes, &state, &err), err);
    kept->state = state;
    kept->read_pages = read_pages;
    kept->read_rows = read_rows;
    kept->context = from;
    if (!kept->pages) {
        kept->n_pages = ranges_of(from, ranges);
        kept->pages = ranges;
    }
    dw_status status = dw_actor_wake(f->runtime, kept, &(dw_thaw_options){.program = f->probe}, out, &report, &err);
    dw_blob_free(state);
    free(ranges);
    return status;
}

/* Away with the actor, and a new one from the shelf. */
static dw_actor *put_to_sleep(fixture *f, dw_actor *actor, shelf *from) {
    dw_kept_actor kept = {0};
    dw_keeper keeper = keeper_of(from);
    dw_actor_destroy(actor);
    dw_actor *woken = NULL;
    assert_ok(wake_with(f, from, &kept, &woken), err);
    dw_actor_keep_with(woken, &keeper);
    return woken;
}

/* --- tests --------------------------------------------------------------------------------------------------- */

static void say_at(dw_actor *actor, const char *text, uint64_t at) {
    dw_turn_result result;
    assert_ok(dw_actor_send(actor, text, strlen(text), at, &err), err);
    assert_ok(dw_actor_turn(actor, UINT64_MAX, &result, &err), err);
    free(result.reply);
}

static void an_actor_that_slept_after_every_turn_equals_one_that_never_did(void **state) {
    static const char *const says[] = {"s1", "S2", "g3", "s4", "z", "a5", "s6", "A512", "E24", "e7", "E24", "z", "?"};
    fixture *f = *state;
    shelf *kept = new_shelf();
    dw_actor *sleeper = kept_actor(f, "same", kept), *twin = fixture_actor(f, "same");
    for (size_t i = 0; i < sizeof says / sizeof says[0]; i++) {
        sleeper = put_to_sleep(f, sleeper, kept); /* before the first turn too */
        say_at(sleeper, says[i], 2000000000 + i);
        say_at(twin, says[i], 2000000000 + i);
        fixture_assert_same(sleeper, twin);
        assert_int_equal(dw_actor_last_message(sleeper), dw_actor_last_message(twin));
    }
    sleeper = put_to_sleep(f, sleeper, kept);
    fixture_assert_same(sleeper, twin);
    dw_actor_destroy(sleeper);
    dw_actor_destroy(twin);
    clear_shelf(kept);
}

static void a_change_has_the_pages_that_the_turn_wrote(void **state) {
    shelf *kept = new_shelf();
    dw_actor *actor = kept_actor(*state, "few", kept);
    assert_int_equal(fixture_say(actor, "A4096"), DW_OK);
    assert_int_equal(fixture_say(actor, "e1"), DW_OK);
    assert_true(kept->pages_changed >= 2048);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(fixture_say(actor, "E24"), DW_OK);
        assert_true(kept->pages_changed >= 24 && kept->pages_changed <= 40);
    }
    dw_actor_destroy(actor);
    clear_shelf(kept);
}

static void what_cannot_be_kept_has_not_happened_and_is_done_again(void **state) {
    fixture *f = *state;
    shelf *kept = new_shelf();
    dw_actor *actor = kept_actor(f, "again", kept), *twin = fixture_actor(f, "again");
    dw_turn_result result;
    say_at(actor, "s1", 1);
    say_at(twin, "s1", 1);
    uint64_t taken = dw_page_store_use_now(dw_runtime_pages(f->runtime)).taken;
    kept->refuse = DW_E_NO_SPACE;
    assert_ok(dw_actor_send(actor, "S2", 2, 2, &err), err);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(dw_actor_turn(actor, UINT64_MAX, &result, &err), DW_E_NO_SPACE);
        assert_null(result.reply);
        assert_int_equal(dw_actor_waiting(actor), 1);
        assert_int_equal(dw_page_store_use_now(dw_runtime_pages(f->runtime)).taken, taken);
        fixture_assert_same(actor, twin);
    }
    kept->refuse = DW_OK;
    assert_ok(dw_actor_turn(actor, UINT64_MAX, &result, &err), err);
    free(result.reply);
    say_at(twin, "S2", 2);
    fixture_assert_same(actor, twin);
    actor = put_to_sleep(f, actor, kept);
    fixture_assert_same(actor, twin);
    dw_actor_destroy(actor);
    dw_actor_destroy(twin);
    clear_shelf(kept);
}

static void a_message_whose_turn_fails_is_dropped_where_it_is_kept_or_stays(void **state) {
    shelf *kept = new_shelf();
    dw_actor *actor = kept_actor(*state, "drop", kept);
    dw_turn_result result;
    say_at(actor, "s1", 1);
    assert_ok(dw_actor_send(actor, "t", 1, 2, &err), err);
    kept->refuse = DW_E_IO;
    assert_int_equal(dw_actor_turn(actor, UINT64_MAX, &result, &err), DW_E_TRAP);
    assert_int_equal(dw_actor_waiting(actor), 1);
    kept->refuse = DW_OK;
    assert_int_equal(dw_actor_turn(actor, UINT64_MAX, &result, NULL), DW_E_TRAP);
    assert_int_equal(dw_actor_waiting(actor), 0);
    assert_int_equal(kept->dropped, 2);
    assert_int_equal(kept->why_dropped, DW_E_TRAP);
    assert_int_equal(kept->turn, 1);
    say_at(actor, "s3", 3);
    assert_int_equal(kept->last_handled, 3);
    dw_actor_destroy(actor);
    clear_shelf(kept);
}

static void messages_that_waited_wait_again_and_new_ones_come_behind(void **state) {
    fixture *f = *state;
    shelf *kept = new_shelf();
    const dw_kept_message waiting[] = {{5, 10, "s1", 2}, {9, 11, "s2", 2}};
    dw_kept_actor from = {.waiting = waiting, .n_waiting = 2, .last_message = 12};
    dw_actor *actor = kept_actor(f, "waits", kept), *woken = NULL;
    dw_keeper keeper = keeper_of(kept);
    dw_turn_result result;
    assert_ok(wake_with(f, kept, &from, &woken), err);
    dw_actor_keep_with(woken, &keeper);
    assert_int_equal(dw_actor_waiting(woken), 2);
    assert_ok(dw_actor_send(woken, "s3", 2, 12, &err), err);
    static const uint64_t numbers[] = {5, 9, 13};
    for (int i = 0; i < 3; i++) {
        assert_ok(dw_actor_turn(woken, UINT64_MAX, &result, &err), err);
        free(result.reply);
        assert_int_equal(kept->last_handled, numbers[i]);
    }
    dw_actor_destroy(actor);
    dw_actor_destroy(woken);
    clear_shelf(kept);
}

static void pages_and_messages_out_of_place_are_refused(void **state) {
    fixture *f = *state;
    shelf *kept = new_shelf();
    dw_actor *actor = kept_actor(f, "places", kept), *woken = NULL;
    say_at(actor, "s1", 1);
    const dw_page_range pages[][2] = {{{kept->memory_bytes, PAGE}}, {{0, kept->memory_bytes + PAGE}}, {{1, PAGE}},
                                      {{PAGE, PAGE}, {0, PAGE}},    {{UINT64_MAX - PAGE + 1, PAGE}}};
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
        dw_kept_actor from = {.pages = pages[i], .n_pages = i == 3 ? 2 : 1};
        for (uint64_t page = 0; page < 2; page++)
            if (!kept->pages[page]) kept->pages[page] = calloc(1, PAGE);
        assert_int_equal(wake_with(f, kept, &from, &woken), DW_E_CORRUPT);
        assert_null(woken);
    }
    const dw_kept_message messages[][2] = {{{0, 1, "a", 1}}, {{7, 1, "a", 1}, {7, 1, "b", 1}}};
    for (size_t i = 0; i < 2; i++) {
        dw_kept_actor from = {.waiting = messages[i], .n_waiting = i + 1};
        assert_int_equal(wake_with(f, kept, &from, &woken), DW_E_CORRUPT);
    }
    dw_actor_destroy(actor);
    clear_shelf(kept);
}

/* --- with conversations --------------------------------------------------------------------------------------- */

enum { AT_TOKENS = 0, AT_OPTIONS = 20480, AT_TEXT = 28672, PROMPT = 300 };

typedef struct talker { dw_actor *actor; uint32_t handle, arena; } talker;

static talker start_talk(dw_actor *actor) {
    int32_t prompt[PROMPT];
    for (int i = 0; i < PROMPT; i++) prompt[i] = (i * 37 + 5) % 500;
    talker t = {.actor = actor};
    t.handle = fixture_request(actor, (dw_request){.op = DW_OP_SESSION_OPEN, .arg0 = 7}).result0;
    t.arena = fixture_put(actor, AT_TOKENS, prompt, sizeof prompt);
    dw_generate_options options = {.size = sizeof options, .n_max = 5, .flags = DW_GENERATE_IGNORE_END,
                                   .sampling = {.temperature = 0.9f, .top_k = 20}};
    fixture_put(actor, AT_OPTIONS, &options, sizeof options);
    return t;
}

static dw_request feed(const talker *t, uint32_t handle, uint32_t first, uint32_t n) {
    return (dw_request){.op = DW_OP_GENERATE, .handle = handle, .ptr0 = t->arena + 4 * first, .len0 = n,
                        .ptr1 = t->arena + AT_OPTIONS, .len1 = sizeof(dw_generate_options),
                        .ptr2 = t->arena + AT_TEXT, .len2 = 4096};
}

/* Evaluates a token, and holds its logits for a draw in a later turn. */
static dw_request hold(const talker *t, uint32_t first) {
    return (dw_request){.op = DW_OP_FORWARD, .flags = DW_FLAG_HOLD, .handle = t->handle, .ptr0 = t->arena + 4 * first,
                        .len0 = 1};
}

/* One step of a conversation with a second one that is forked off, rewound and closed. */
static void talk_on(talker *t, int step, uint32_t *child) {
    const dw_request rewind = {.op = DW_OP_SESSION_REWIND, .handle = t->handle, .arg0 = 120};
    switch (step) {
    case 0: fixture_request(t->actor, feed(t, t->handle, 0, 200)); break;
    case 1:
        *child = fixture_request(t->actor, (dw_request){.op = DW_OP_SESSION_FORK, .handle = t->handle}).result0;
        break;
    case 2: fixture_request(t->actor, feed(t, *child, 10, 3)); break;
    case 3: fixture_request(t->actor, feed(t, t->handle, 30, 1)); break;
    case 4: fixture_request(t->actor, rewind); break;
    case 5: fixture_request(t->actor, feed(t, t->handle, 200, 80)); break;
    case 6: fixture_request(t->actor, (dw_request){.op = DW_OP_SESSION_CLOSE, .handle = *child}); break;
    case 7: *child = fixture_request(t->actor, (dw_request){.op = DW_OP_SESSION_OPEN}).result0; break;
    case 8:
    case 10: fixture_request(t->actor, hold(t, (uint32_t)step)); break;
    case 9: fixture_request(t->actor, feed(t, t->handle, 0, 0)); break; /* draws from what was held */
    case 11: fixture_request(t->actor, (dw_request){.op = DW_OP_SESSION_LENGTH, .handle = t->handle}); break;
    default: fixture_request(t->actor, feed(t, t->handle, (uint32_t)step, 1)); break;
    }
}

static void a_conversation_that_slept_after_every_turn_equals_one_that_never_did(void **state) {
    fixture *f = *state;
    shelf *kept = new_shelf();
    talker a = start_talk(kept_actor(f, "talk", kept)), b = start_talk(fixture_actor(f, "talk"));
    uint32_t child_a = 0, child_b = 0;
    for (int step = 0; step < 16; step++) {
        a.actor = put_to_sleep(f, a.actor, kept);
        uint32_t n_held = 0;
        if (step == 9 || step == 11) assert_non_null(dw_session_logits(dw_actor_session(a.actor, 0), &n_held));
        talk_on(&a, step, &child_a);
        talk_on(&b, step, &child_b);
        assert_int_equal(child_a, child_b);
        fixture_assert_same(a.actor, b.actor);
        if (step > 8) assert_true(kept->rows_changed <= 14); /* tokens and rows that came, whatever was there (I8) */
    }
    a.actor = put_to_sleep(f, a.actor, kept);
    fixture_assert_same(a.actor, b.actor);
    dw_actor_destroy(a.actor);
    dw_actor_destroy(b.actor);
    clear_shelf(kept);
}

/* What a turn that failed had cut and written is not in the next change, and what it left is. */
static void a_conversation_whose_turns_fail_is_kept_as_it_was(void **state) {
    fixture *f = *state;
    shelf *kept = new_shelf();
    talker a = start_talk(kept_actor(f, "fails", kept)), b = start_talk(fixture_actor(f, "fails"));
    uint32_t child = 0;
    talk_on(&a, 0, &child);
    talk_on(&b, 0, &child);
    const dw_request bad[] = {{.op = DW_OP_SESSION_REWIND, .handle = a.handle, .arg0 = 50}, feed(&a, a.handle, 60, 20)};
    const raw_call head = {.n = 2, .capacity = RAW_COMPLETIONS, .wait = 2, .deadline = -1, .trap_behind = true};
    raw_answer answer;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(fixture_raw(a.actor, head, bad, 2, &answer), DW_E_TRAP);
        talk_on(&a, 13 + i, &child);
        talk_on(&b, 13 + i, &child);
        assert_true(kept->rows_changed <= 14);
        a.actor = put_to_sleep(f, a.actor, kept);
        fixture_assert_same(a.actor, b.actor);
    }
    dw_actor_destroy(a.actor);
    dw_actor_destroy(b.actor);
    clear_shelf(kept);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_actor_that_slept_after_every_turn_equals_one_that_never_did),
        cmocka_unit_test(a_change_has_the_pages_that_the_turn_wrote),
        cmocka_unit_test(what_cannot_be_kept_has_not_happened_and_is_done_again),
        cmocka_unit_test(a_message_whose_turn_fails_is_dropped_where_it_is_kept_or_stays),
        cmocka_unit_test(messages_that_waited_wait_again_and_new_ones_come_behind),
        cmocka_unit_test(pages_and_messages_out_of_place_are_refused),
        cmocka_unit_test(a_conversation_that_slept_after_every_turn_equals_one_that_never_did),
        cmocka_unit_test(a_conversation_whose_turns_fail_is_kept_as_it_was),
    };
    return cmocka_run_group_tests(tests, fixture_setup_with_model, fixture_teardown);
}
