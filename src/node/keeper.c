/* keeper.c: what an actor's commit changes, as a change of the store. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/node_internal.h"

dw_status dw_node_commit(dw_node *node, const dw_store_change *changes, size_t n, dw_error *err) {
    return dw_node_blame(dw_store_commit(node->store, changes, n, DW_STORE_LEVEL_TURN, err), err);
}

dw_status dw_node_blame(dw_status status, dw_error *err) {
    const char *text = err && status != DW_OK ? err->text : "";
    char why[DW_ERROR_TEXT_BYTES];
    (void)snprintf(why, sizeof why, "%s", text);
    switch (status) {
    case DW_E_STATE: return dw_fail(err, DW_E_IO, "the store takes nothing any more: %s", why);
    case DW_E_MISMATCH:
    case DW_E_RANGE:
    case DW_E_INVALID: return dw_fail(err, DW_E_INTERNAL, "a commit that does not fit its actor: %s", why);
    default: return status;
    }
}

/* --- pages ----------------------------------------------------------------------------------------------------- */

/* Whether the program's image 0 has something of its own there, which a page of zeros has to hide. */
static bool is_in_image0(const dw_program *program, uint64_t offset) {
    size_t n = 0;
    const dw_extent *extents = dw_program_image0(program, &n);
    for (size_t i = 0; i < n; i++)
        if (extents[i].backing && offset >= extents[i].offset && offset - extents[i].offset < extents[i].size)
            return true;
    return false;
}

/* A page as the store shall have it; false: it need not have it. In the store a page that is not there is one of the
 * image 0, or zeros (keep.h rule 1). So zeros over image 0 are written out, others take no room, and those of memory
 * that has just been grown are not even named. */
static bool store_page_of(const dw_actor_change *change, uint64_t offset, dw_store_page *out) {
    const uint8_t *data = change->memory + offset;
    *out = (dw_store_page){.index = offset / DW_STORE_PAGE_BYTES, .data = data};
    if (!dw_is_zero(data, DW_STORE_PAGE_BYTES) || is_in_image0(dw_actor_program(change->actor), offset)) return true;
    out->data = NULL;
    return offset < change->memory_bytes_before;
}

static dw_status collect_pages(const dw_actor_change *change, dw_store_page **out, size_t *n, dw_error *err) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < change->n_written; i++) bytes += change->written[i].size;
    dw_store_page *pages = calloc((size_t)(bytes / DW_STORE_PAGE_BYTES) + 1, sizeof *pages);
    *out = pages;
    *n = 0;
    if (!pages) return dw_fail(err, DW_E_NO_MEMORY, "no memory to keep %llu bytes", (unsigned long long)bytes);
    for (size_t i = 0; i < change->n_written; i++) {
        uint64_t at = change->written[i].offset, end = at + change->written[i].size;
        for (; at < end; at += DW_STORE_PAGE_BYTES)
            if (store_page_of(change, at, &pages[*n])) ++*n;
    }
    return DW_OK;
}

/* --- rows ------------------------------------------------------------------------------------------------------ */

static dw_status collect_rows(const dw_actor_change *change, dw_store_rows **out, dw_error *err) {
    dw_store_rows *rows = calloc(change->n_rows + 1, sizeof *rows);
    *out = rows;
    if (!rows) return dw_fail(err, DW_E_NO_MEMORY, "no memory to keep %zu streams", change->n_rows);
    for (size_t i = 0; i < change->n_rows; i++) {
        const dw_kept_rows *from = &change->rows[i];
        rows[i] = (dw_store_rows){.session = from->stream, .first = from->first, .n = from->n,
                                  .row_bytes = from->row_bytes, .data = from->data};
    }
    return DW_OK;
}

/* A change as the store wants it, and what that points to. */
typedef struct dw_store_parts {
    dw_store_change change;
    dw_store_page *pages;
    dw_store_rows *rows;
} dw_store_parts;

static void free_store_parts(dw_store_parts *parts) {
    free(parts->pages);
    free(parts->rows);
    *parts = (dw_store_parts){0};
}

static dw_status make_store_parts(dw_store_parts *parts, const char *name, const dw_actor_change *change,
                            const dw_store_record *records, size_t n_records, dw_error *err) {
    size_t n_pages = 0;
    *parts = (dw_store_parts){0};
    dw_status status = collect_pages(change, &parts->pages, &n_pages, err);
    if (status == DW_OK) status = collect_rows(change, &parts->rows, err);
    parts->change = (dw_store_change){.act = change->turn ? DW_STORE_TURN : DW_STORE_CREATE, .actor = name,
                                      .turn = change->turn, .pages = parts->pages, .n_pages = n_pages,
                                      .rows = parts->rows, .n_rows = change->n_rows, .state = change->state,
                                      .state_bytes = change->state_bytes, .records = records, .n_records = n_records};
    return status;
}

dw_status dw_node_create(dw_node *node, const char *name, const dw_actor_change *birth, const dw_store_record *records,
                         size_t n_records, dw_error *err) {
    dw_store_parts parts;
    dw_status status = make_store_parts(&parts, name, birth, records, n_records, err);
    if (status == DW_OK) status = dw_node_commit(node, &parts.change, 1, err);
    free_store_parts(&parts);
    return status;
}

/* --- books ----------------------------------------------------------------------------------------------------- */

/* What handling a message changes in the records and in the books. */
typedef struct handling {
    dw_resident *resident;
    uint64_t message;
    size_t n_forgotten;        /* answers that have to go */
    dw_entry answer;           /* for the books; no key: none */
    uint8_t *record;           /* of the answer; owned */
    dw_store_record records[2 + DW_NODE_ANSWERS_MAX];
    size_t n_records;
    dw_store_parts parts;      /* of a turn */
} handling;

static void free_handling(handling *of) {
    dw_entry_deinit(&of->answer);
    free(of->record);
    free_store_parts(&of->parts);
}

/* How many of the oldest answers go so that one more of `bytes` fits (node.h rule 4). */
static size_t answers_to_forget(const dw_entries *answers, size_t bytes) {
    uint64_t sum = bytes;
    size_t n = 0;
    for (size_t i = 0; i < answers->count; i++) sum += answers->items[i].bytes;
    while (n < answers->count && (answers->count - n >= DW_NODE_ANSWERS_MAX || sum > DW_NODE_ANSWER_BYTES_MAX))
        sum -= answers->items[n++].bytes;
    return n;
}

static dw_status plan_answer(handling *of, const dw_entry *entry, const dw_answer_record *answer, dw_error *err) {
    dw_entries *answers = &of->resident->answers;
    dw_answer_record record = *answer;
    size_t size = 0;
    record.key = (const uint8_t *)entry->key;
    record.key_bytes = (uint32_t)strlen(entry->key);
    record.body = entry->body;
    dw_status status = dw_entry_copy(entry, &of->answer, err);
    if (status == DW_OK && dw_answer_record_encode(&record, &of->record, &size) != DW_OK)
        status = dw_fail(err, DW_E_NO_MEMORY, "no memory to remember an answer");
    if (status != DW_OK) return status;
    of->answer.bytes = record.size;
    of->n_forgotten = answers_to_forget(answers, record.size);
    for (size_t i = 0; i < of->n_forgotten; i++)
        of->records[of->n_records++] = (dw_store_record){.kind = DW_NODE_ANSWER, .number = answers->items[i].number};
    of->records[of->n_records++] =
        (dw_store_record){.kind = DW_NODE_ANSWER, .number = of->message, .data = of->record, .size = size};
    return dw_entries_reserve(answers, err);
}

static dw_status plan_handling(handling *of, dw_resident *resident, uint64_t message, const dw_answer_record *answer,
                               dw_error *err) {
    const dw_entry *waiting = dw_entries_numbered(&resident->waiting, message), *entry = waiting;
    *of = (handling){.resident = resident, .message = message};
    if (!entry && resident->asked && resident->asked->number == message) entry = resident->asked;
    if (waiting) of->records[of->n_records++] = (dw_store_record){.kind = DW_NODE_MESSAGE, .number = message};
    return entry && entry->key ? plan_answer(of, entry, answer, err) : DW_OK;
}

/* The commit was made: the books follow. Cannot fail. */
static void finish_handling(handling *of) {
    dw_resident *resident = of->resident;
    resident->handled = of->message;
    for (size_t i = 0; i < of->n_forgotten; i++) dw_entries_remove(&resident->answers, 0);
    for (size_t i = 0; i < resident->waiting.count; i++) {
        if (resident->waiting.items[i].number != of->message) continue;
        dw_entries_remove(&resident->waiting, i);
        break;
    }
    if (of->answer.key) resident->answers.items[resident->answers.count++] = of->answer; /* room was reserved */
    of->answer = (dw_entry){0};
}

/* --- the keeper ------------------------------------------------------------------------------------------------ */

static dw_resident *resident_of(dw_node *node, const dw_actor *actor) {
    dw_resident *at = node->residents;
    while (at && at->actor != actor) at = at->next;
    return at;
}

static dw_status plan_turn(dw_node *node, const dw_actor_change *change, handling *of, dw_error *err) {
    dw_resident *resident = resident_of(node, change->actor);
    const dw_answer_record answer = {.status = DW_OK, .turn = change->turn, .text = change->reply,
                                     .size = (uint32_t)change->reply_size};
    if (!resident) return dw_fail(err, DW_E_INTERNAL, "a turn of an actor that the node does not know");
    dw_status status = plan_handling(of, resident, change->message, &answer, err);
    if (status != DW_OK) return status;
    return make_store_parts(&of->parts, resident->name, change, of->records, of->n_records, err);
}

static dw_status keep_turns(void *context, const dw_actor_change *changes, size_t n, dw_error *err) {
    dw_node *node = context;
    handling *all = calloc(n, sizeof *all);
    dw_store_change *to = calloc(n, sizeof *to);
    dw_status status = all && to ? DW_OK : dw_fail(err, DW_E_NO_MEMORY, "no memory to keep %zu turns", n);
    for (size_t i = 0; i < n && status == DW_OK; i++) {
        status = plan_turn(node, &changes[i], &all[i], err);
        to[i] = all[i].parts.change;
    }
    if (status == DW_OK) status = dw_node_commit(node, to, n, err);
    for (size_t i = 0; all && i < n; i++) {
        if (status == DW_OK) finish_handling(&all[i]);
        free_handling(&all[i]);
    }
    free(all);
    free(to);
    return status;
}

static dw_status keep_failure(void *context, dw_actor *actor, uint64_t message, const dw_error *why, dw_error *err) {
    dw_node *node = context;
    dw_resident *resident = resident_of(node, actor);
    handling of;
    if (!resident) return dw_fail(err, DW_E_INTERNAL, "a turn of an actor that the node does not know");
    const dw_answer_record answer = {.status = why->status, .text = (const uint8_t *)why->text,
                                     .size = (uint32_t)strlen(why->text)};
    dw_status status = plan_handling(&of, resident, message, &answer, err);
    const dw_store_change change = {.act = DW_STORE_RECORDS, .actor = resident->name, .records = of.records,
                                    .n_records = of.n_records};
    if (status == DW_OK && of.n_records > 0) status = dw_node_commit(node, &change, 1, err);
    if (status == DW_OK) finish_handling(&of);
    free_handling(&of);
    return status;
}

dw_keeper dw_node_keeper(dw_node *node) {
    return (dw_keeper){.keep = keep_turns, .drop = keep_failure, .context = node};
}
