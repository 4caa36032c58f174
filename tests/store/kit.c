/* kit.c: the model of a store, and random changes. */
#include "store/kit.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/test.h"
#include "os/os.h"

enum { RECORD_KIND = 7 };

void kit_name(unsigned actor, char out[32]) { (void)snprintf(out, 32, "actor/%u", actor); }

static bool remove_kit_file(void *context, const char *name) {
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/%s", (const char *)context, name);
    (void)remove(path);
    return true;
}

void kit_empty_folder(const char *folder) {
    dw_error err = {0};
    if (!dw_os_exists(folder)) return;
    assert_ok(dw_os_list(folder, remove_kit_file, (void *)(uintptr_t)folder, &err), err);
}

void kit_fill(uint64_t seed, void *out, size_t size) {
    uint8_t *to = out;
    uint64_t state = seed;
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word = test_random(&state);
        memcpy(to + i, &word, size - i < 8 ? size - i : 8);
    }
}

/* --- changes --------------------------------------------------------------------------------------------------- */

static uint64_t new_seed(uint64_t *random) { return test_random(random) | 1; }

static void remember(kit_actor *actor) {
    memmove(&actor->past[1], &actor->past[0], (KIT_PAST - 1) * sizeof actor->past[0]);
    actor->past[0] = actor->now;
    if (actor->n_past < KIT_PAST) actor->n_past++;
}

static void add_page(uint64_t *random, kit_version *now, kit_batch *out, size_t at, uint32_t index, bool zeros) {
    dw_store_change *change = &out->changes[at];
    size_t i = change->n_pages++;
    now->pages[index] = zeros ? 0 : new_seed(random);
    if (!zeros) kit_fill(now->pages[index], out->page_bytes[at][i], DW_STORE_PAGE_BYTES);
    out->pages[at][i] = (dw_store_page){index, zeros ? NULL : out->page_bytes[at][i]};
}

static void add_rows(uint64_t *random, kit_version *now, kit_batch *out, size_t at, uint32_t session, uint32_t first,
                     uint32_t n) {
    dw_store_change *change = &out->changes[at];
    size_t i = change->n_rows++;
    for (uint32_t k = 0; k < n; k++) {
        now->rows[session][first + k] = new_seed(random);
        kit_fill(now->rows[session][first + k], out->row_bytes[at][i] + k * KIT_ROW_BYTES, KIT_ROW_BYTES);
    }
    now->n_rows[session] = first + n;
    out->rows[at][i] = (dw_store_rows){.session = session + 100, .first = first, .n = n, .row_bytes = KIT_ROW_BYTES,
                                       .data = n ? out->row_bytes[at][i] : NULL};
}

static void add_record(uint64_t *random, kit_actor *actor, kit_batch *out, size_t at, uint32_t number, bool gone) {
    dw_store_change *change = &out->changes[at];
    size_t i = change->n_records++;
    actor->records[number] = gone ? 0 : new_seed(random);
    if (!gone) kit_fill(actor->records[number], out->record_bytes[at][i], KIT_RECORD_BYTES);
    out->records[at][i] =
        (dw_store_record){RECORD_KIND, number, gone ? NULL : out->record_bytes[at][i], KIT_RECORD_BYTES};
}

static void begin_change(kit_batch *out, size_t at, dw_store_act act, unsigned actor) {
    kit_name(actor, out->names[at][0]);
    out->changes[at] = (dw_store_change){.act = act,
                                         .actor = out->names[at][0],
                                         .pages = out->pages[at],
                                         .rows = out->rows[at],
                                         .records = out->records[at]};
}

static void add_state(uint64_t *random, kit_version *now, kit_batch *out, size_t at) {
    now->state = new_seed(random);
    kit_fill(now->state, out->state_bytes[at], KIT_STATE_BYTES);
    out->changes[at].state = out->state_bytes[at];
    out->changes[at].state_bytes = KIT_STATE_BYTES;
}

static void random_content(uint64_t *random, kit_version *now, kit_batch *out, size_t at) {
    for (uint32_t i = 0; i < KIT_PAGES; i++)
        if (test_random_below(random, 6) == 0) add_page(random, now, out, at, i, test_random_below(random, 4) == 0);
    for (uint32_t s = 0; s < KIT_SESSIONS; s++) {
        uint64_t dice = test_random_below(random, 6);
        uint32_t have = now->n_rows[s];
        uint32_t first = dice == 0 ? (uint32_t)test_random_below(random, have + 1u) : have;
        uint32_t room = KIT_ROWS - first;
        if (dice > 3) continue;
        if (dice == 1 && room == 0) first = 0, room = KIT_ROWS;
        uint32_t n = (uint32_t)test_random_below(random, room < 9 ? room + 1u : 9u);
        if (n || first != have) add_rows(random, now, out, at, s, first, n);
    }
    add_state(random, now, out, at);
}

static void random_records(uint64_t *random, kit_actor *actor, kit_batch *out, size_t at) {
    for (uint32_t i = 0; i < KIT_RECORDS; i++)
        if (test_random_below(random, 4) == 0) add_record(random, actor, out, at, i, test_random_below(random, 2) == 0);
}

/* One change of `actor`; false where dice and model do not agree. */
static bool random_change(uint64_t *random, kit_model *model, unsigned number, kit_batch *out, size_t at) {
    kit_actor *actor = &model->actors[number];
    uint64_t dice = test_random_below(random, 20);
    if (!actor->exists) {
        unsigned source = (unsigned)test_random_below(random, KIT_ACTORS);
        kit_actor fresh = {.exists = true};
        if (dice < 8 && model->actors[source].exists) {
            uint32_t back = (uint32_t)test_random_below(random, model->actors[source].n_past + 1u);
            begin_change(out, at, DW_STORE_FORK, number);
            kit_name(source, out->names[at][1]);
            out->changes[at].source = out->names[at][1];
            fresh.now = back ? model->actors[source].past[back - 1] : model->actors[source].now;
            fresh.n_past = model->actors[source].n_past - back;
            memcpy(fresh.past, &model->actors[source].past[back], fresh.n_past * sizeof fresh.past[0]);
            out->changes[at].turn = back || dice % 2 ? fresh.now.turn : DW_STORE_LATEST;
        } else {
            begin_change(out, at, DW_STORE_CREATE, number);
            fresh.now.turn = out->changes[at].turn = 1 + test_random_below(random, 3);
            random_content(random, &fresh.now, out, at);
        }
        *actor = fresh;
    } else if (dice < 13) {
        remember(actor);
        begin_change(out, at, DW_STORE_TURN, number);
        out->changes[at].turn = ++actor->now.turn;
        random_content(random, &actor->now, out, at);
    } else if (dice < 16) {
        begin_change(out, at, DW_STORE_RECORDS, number);
    } else if (dice < 18 && actor->n_past) {
        uint32_t back = 1 + (uint32_t)test_random_below(random, actor->n_past);
        begin_change(out, at, DW_STORE_REWIND, number);
        actor->now = actor->past[back - 1];
        actor->n_past -= back;
        memmove(actor->past, &actor->past[back], actor->n_past * sizeof actor->past[0]);
        out->changes[at].turn = actor->now.turn;
    } else if (dice == 19) {
        begin_change(out, at, DW_STORE_REMOVE, number);
        *actor = (kit_actor){0};
        return true;
    } else {
        return false;
    }
    random_records(random, actor, out, at);
    return true;
}

void kit_random_batch(uint64_t *random, const kit_model *before, kit_model *after, kit_batch *out) {
    size_t wanted = 1 + test_random_below(random, KIT_CHANGES);
    *after = *before;
    out->n = 0;
    while (out->n < wanted)
        if (random_change(random, after, (unsigned)test_random_below(random, KIT_ACTORS), out, out->n)) out->n++;
}

void kit_turn(uint64_t *random, kit_model *model, unsigned number, unsigned n_pages, unsigned n_rows, kit_batch *out) {
    kit_actor *actor = &model->actors[number];
    bool is_new = !actor->exists;
    if (is_new) *actor = (kit_actor){.exists = true};
    else remember(actor);
    begin_change(out, 0, is_new ? DW_STORE_CREATE : DW_STORE_TURN, number);
    out->n = 1;
    out->changes[0].turn = ++actor->now.turn;
    for (unsigned i = 0; i < n_pages; i++) add_page(random, &actor->now, out, 0, i, false);
    if (n_rows) add_rows(random, &actor->now, out, 0, 0, actor->now.n_rows[0], n_rows);
    add_state(random, &actor->now, out, 0);
}

/* --- comparing ------------------------------------------------------------------------------------------------- */

static bool same_bytes(uint64_t seed, const void *found, size_t size) {
    static _Thread_local uint8_t wanted[DW_STORE_PAGE_BYTES];
    if (seed == 0) memset(wanted, 0, size);
    else kit_fill(seed, wanted, size);
    return memcmp(wanted, found, size) == 0;
}

static bool same_pages(dw_store_view *view, const kit_version *version, char *why, const char *name) {
    static _Thread_local uint8_t found[(KIT_PAGES + 2) * DW_STORE_PAGE_BYTES];
    dw_error err;
    dw_status status = dw_store_view_read_pages(view, 0, KIT_PAGES + 2, found, &err);
    if (status != DW_OK)
        return snprintf(why, KIT_WHY_BYTES, "%s: pages: %s: %s", name, dw_status_name(status), err.text) < 0;
    for (unsigned i = 0; i < KIT_PAGES + 2; i++)
        if (!same_bytes(i < KIT_PAGES ? version->pages[i] : 0, found + i * DW_STORE_PAGE_BYTES, DW_STORE_PAGE_BYTES))
            return snprintf(why, KIT_WHY_BYTES, "%s: turn %" PRIu64 ": page %u differs", name, version->turn, i) < 0;
    return true;
}

static bool same_rows(dw_store_view *view, const kit_version *version, char *why, const char *name) {
    static _Thread_local uint8_t found[KIT_ROWS * KIT_ROW_BYTES];
    const dw_store_session *sessions;
    size_t n = dw_store_view_sessions(view, &sessions), wanted = 0;
    dw_error err;
    for (unsigned s = 0; s < KIT_SESSIONS; s++) {
        uint32_t n_rows = version->n_rows[s];
        wanted += n_rows > 0;
        dw_status status = dw_store_view_read_rows(view, s + 100, 0, n_rows, found, &err);
        if (status != DW_OK)
            return snprintf(why, KIT_WHY_BYTES, "%s: rows: %s: %s", name, dw_status_name(status), err.text) < 0;
        for (uint32_t i = 0; i < n_rows; i++)
            if (!same_bytes(version->rows[s][i], found + i * KIT_ROW_BYTES, KIT_ROW_BYTES))
                return snprintf(why, KIT_WHY_BYTES, "%s: turn %" PRIu64 ": session %u: row %u differs", name,
                                version->turn, s, i) < 0;
        if (dw_store_view_read_rows(view, s + 100, 0, n_rows + 1u, found, &err) != DW_E_RANGE)
            return snprintf(why, KIT_WHY_BYTES, "%s: session %u has more than %u rows", name, s, n_rows) < 0;
    }
    return n == wanted || snprintf(why, KIT_WHY_BYTES, "%s: %zu sessions, not %zu", name, n, wanted) < 0;
}

static bool same_version(dw_store *store, const char *name, const kit_version *version, bool latest, char *why) {
    dw_store_view *view = NULL;
    dw_error err;
    dw_status status = dw_store_view_open(store, name, latest ? DW_STORE_LATEST : version->turn, &view, &err);
    if (status != DW_OK)
        return snprintf(why, KIT_WHY_BYTES, "%s: turn %" PRIu64 ": %s: %s", name, version->turn, dw_status_name(status),
                        err.text) < 0;
    size_t size;
    const void *state = dw_store_view_state(view, &size);
    bool same =
        dw_store_view_turn(view) == version->turn && size == KIT_STATE_BYTES && same_bytes(version->state, state, size);
    if (!same)
        (void)snprintf(why, KIT_WHY_BYTES, "%s: turn %" PRIu64 ", not %" PRIu64 ", or its state differs", name,
                       dw_store_view_turn(view), version->turn);
    same = same && same_pages(view, version, why, name) && same_rows(view, version, why, name);
    dw_store_view_close(view);
    return same;
}

typedef struct found_records { const kit_actor *actor; uint32_t n; bool same; } found_records;

static bool compare_record(void *context, uint64_t number, const void *data, size_t size) {
    found_records *found = context;
    found->n++;
    found->same = found->same && number < KIT_RECORDS && size == KIT_RECORD_BYTES && found->actor->records[number] &&
                  same_bytes(found->actor->records[number], data, size);
    return true;
}

static bool same_records(dw_store *store, const char *name, const kit_actor *actor, char *why) {
    found_records found = {.actor = actor, .same = true};
    uint32_t wanted = 0;
    dw_error err;
    for (unsigned i = 0; i < KIT_RECORDS; i++) wanted += actor->records[i] != 0;
    dw_status status = dw_store_records(store, name, RECORD_KIND, 0, compare_record, &found, &err);
    if (status != DW_OK)
        return snprintf(why, KIT_WHY_BYTES, "%s: records: %s: %s", name, dw_status_name(status), err.text) < 0;
    return (found.same && found.n == wanted) || snprintf(why, KIT_WHY_BYTES, "%s: records differ", name) < 0;
}

bool kit_matches(dw_store *store, const kit_model *model, bool past, char why[KIT_WHY_BYTES]) {
    for (unsigned i = 0; i < KIT_ACTORS; i++) {
        const kit_actor *actor = &model->actors[i];
        dw_store_view *view = NULL;
        char name[32];
        dw_error err;
        kit_name(i, name);
        if (!actor->exists) {
            dw_status status = dw_store_view_open(store, name, DW_STORE_LATEST, &view, &err);
            dw_store_view_close(view);
            if (status == DW_E_NOT_FOUND) continue;
            return snprintf(why, KIT_WHY_BYTES, "%s: not gone: %s", name, dw_status_name(status)) < 0;
        }
        if (!same_version(store, name, &actor->now, true, why) || !same_records(store, name, actor, why)) return false;
        for (unsigned k = 0; past && k < actor->n_past; k++)
            if (!same_version(store, name, &actor->past[k], false, why)) return false;
    }
    return true;
}
