/* messages.c: a message to an actor: accepted, handled, answered. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "node/node_internal.h"
#include "os/os.h"

/* --- keys ------------------------------------------------------------------------------------------------------ */

/* A key that was used for something else is a mistake of the sender's, which must not pass as an answer. */
static dw_status check_same(const dw_entry *known, const dw_entry *entry, dw_error *err) {
    return dw_hash_equal(&known->body, &entry->body)
               ? DW_OK
               : dw_fail(err, DW_E_MISMATCH, "the key \"%.60s\" was given to another message", entry->key);
}

typedef struct remembered { dw_node_answer *answer; uint64_t number; dw_error why; dw_status status; } remembered;

static bool take_answer(void *context, uint64_t number, const void *data, size_t size) {
    remembered *to = context;
    dw_answer_record record;
    if (number != to->number) return false;
    to->status = dw_answer_record_decode(data, size, &record, &to->why);
    if (to->status != DW_OK) return false;
    char *text = malloc((size_t)record.size + 1);
    if (!text) {
        to->status = dw_fail(&to->why, DW_E_NO_MEMORY, "no memory for an answer of %u bytes", record.size);
        return false;
    }
    if (record.size > 0) memcpy(text, record.text, record.size);
    text[record.size] = '\0';
    dw_node_answer *answer = to->answer;
    *answer = (dw_node_answer){.number = number, .status = record.status, .known = true};
    answer->turn.status = record.status;
    answer->turn.turn = record.turn;
    if (record.status == DW_OK) {
        answer->turn.reply = text;
        answer->turn.reply_size = record.size;
    } else {
        (void)dw_fail(&to->why, record.status, "%s", text);
        free(text);
    }
    return false;
}

/* What was answered then: returns how that turn ended. */
static dw_status remember(dw_resident *resident, uint64_t number, dw_node_answer *answer, dw_error *err) {
    remembered to = {.answer = answer, .number = number, .status = DW_E_CORRUPT};
    (void)dw_fail(&to.why, DW_E_CORRUPT, "an answer is in the books and not in the store");
    dw_status status = dw_store_records(resident->node->store, resident->name, DW_NODE_ANSWER, number, take_answer,
                                        &to, err);
    if (status != DW_OK) return status;
    if (to.status == DW_OK && answer->status == DW_OK) return DW_OK;
    if (err) *err = to.why;
    return to.status == DW_OK ? answer->status : to.status;
}

/* --- accepting ------------------------------------------------------------------------------------------------- */

static dw_status check_room(const dw_resident *resident, const dw_node_message *message, dw_error *err) {
    uint64_t bytes = message->size;
    if (message->size > DW_MESSAGE_BYTES_MAX)
        return dw_fail(err, DW_E_LIMIT, "a message of %zu bytes is above the limit of %llu", message->size,
                       (unsigned long long)DW_MESSAGE_BYTES_MAX);
    for (size_t i = 0; resident && i < resident->waiting.count; i++) bytes += resident->waiting.items[i].bytes;
    if (resident && (resident->waiting.count >= DW_MAILBOX_MESSAGES_MAX || bytes > DW_MAILBOX_BYTES_MAX))
        return dw_fail(err, DW_E_FULL, "the mailbox of %s is full (%zu messages)", resident->name,
                       resident->waiting.count);
    return DW_OK;
}

static dw_status encode_message(const dw_node_message *message, uint8_t **out, size_t *size, dw_error *err) {
    const dw_message_record record = {.realtime_ns = message->realtime_ns, .key = (const uint8_t *)message->key,
                                      .key_bytes = message->key ? (uint32_t)strlen(message->key) : 0,
                                      .body = message->body, .size = (uint32_t)message->size};
    dw_status status = dw_message_record_encode(&record, out, size);
    return status == DW_OK ? DW_OK : dw_fail(err, status, "no memory for a message of %zu bytes", message->size);
}

/* The message's own time is part of it, whenever it is handled. */
static dw_node_message with_time(const dw_node_message *message) {
    dw_node_message timed = *message;
    if (timed.realtime_ns == 0) timed.realtime_ns = dw_os_realtime_ns();
    return timed;
}

/* On disk, then in the books, then to the actor, where it is awake. */
static dw_status accept_message(dw_resident *resident, const dw_node_message *message, dw_entry *entry,
                                dw_error *err) {
    uint8_t *bytes = NULL;
    size_t size = 0;
    dw_status status = dw_entries_reserve(&resident->waiting, err);
    if (status == DW_OK) status = encode_message(message, &bytes, &size, err);
    if (status != DW_OK) return status;
    const dw_store_record record = {.kind = DW_NODE_MESSAGE, .number = entry->number, .data = bytes, .size = size};
    const dw_store_change change = {.act = DW_STORE_RECORDS, .actor = resident->name, .records = &record,
                                    .n_records = 1};
    status = dw_node_commit(resident->node, &change, 1, err);
    free(bytes);
    if (status != DW_OK) return status;
    resident->last = entry->number;
    status = dw_entries_add(&resident->waiting, *entry, err); /* room was reserved */
    *entry = (dw_entry){0};
    if (status == DW_OK && resident->actor &&
        dw_actor_send(resident->actor, message->body, message->size, message->realtime_ns, NULL) != DW_OK)
        dw_node_let_go(resident); /* accepted it is: the actor wakes with it */
    return status;
}

dw_status dw_node_send(dw_node *node, const char *name, const dw_node_message *message, uint64_t *number, bool *known,
                       dw_error *err) {
    dw_resident *resident = NULL;
    dw_entry entry = {0};
    *number = 0;
    *known = false;
    dw_status status = check_room(NULL, message, err);
    if (status == DW_OK) status = dw_node_resident(node, name, &resident, err);
    if (status == DW_OK) status = dw_entry_of(message, resident->last + 1, &entry, err);
    if (status != DW_OK) return status;
    const dw_entry *same = dw_entries_with_key(&resident->answers, message->key);
    if (!same) same = dw_entries_with_key(&resident->waiting, message->key);
    if (same) {
        status = check_same(same, &entry, err);
        *known = status == DW_OK;
        *number = status == DW_OK ? same->number : 0;
    } else {
        const dw_node_message timed = with_time(message);
        *number = entry.number;
        status = check_room(resident, message, err);
        if (status == DW_OK) status = accept_message(resident, &timed, &entry, err);
    }
    dw_entry_deinit(&entry);
    return status;
}

/* --- handling --------------------------------------------------------------------------------------------------- */

/* The actor's oldest message. Returns how its turn ended; resident->handled is its number, or 0 where nothing was kept:
 * then the actor is not to be used any more (node.h rule 5). */
static dw_status handle_one(dw_resident *resident, uint64_t deadline_ns, dw_turn_result *turn, dw_error *err) {
    resident->handled = 0;
    return dw_actor_turn(resident->actor, deadline_ns, turn, err);
}

/* For turns whose answer nobody gets. */
static void tell_of_failed_turn(const dw_resident *resident, dw_status status, const dw_error *err) {
    dw_log(DW_LOG_WARN, "turn_failed", "actor=%s message=%llu status=%s reason=\"%s\"", resident->name,
           (unsigned long long)resident->handled, dw_status_name(status), err ? err->text : "");
}

/* Turns until the message is handled. Before it others may be, and nobody asks for their replies. */
static dw_status handle_until(dw_resident *resident, uint64_t number, uint64_t deadline_ns, dw_node_answer *answer,
                              dw_error *err) {
    for (;;) {
        dw_turn_result turn;
        dw_status status = handle_one(resident, deadline_ns, &turn, err);
        if (resident->handled == number) {
            *answer = (dw_node_answer){.number = number, .status = status, .turn = turn};
            return status;
        }
        free(turn.reply);
        if (resident->handled == 0)
            return status != DW_OK ? status : dw_fail(err, DW_E_INTERNAL, "a turn was not kept");
        if (status != DW_OK) tell_of_failed_turn(resident, status, err);
    }
}

static dw_status ask_anew(dw_resident *resident, const dw_node_message *message, const dw_entry *entry,
                          uint64_t deadline_ns, dw_node_answer *answer, dw_error *err) {
    dw_status status = check_room(resident, message, err);
    if (status == DW_OK)
        status = dw_actor_send(resident->actor, message->body, message->size, message->realtime_ns, err);
    if (status != DW_OK) return status;
    assert(dw_actor_last_message(resident->actor) == entry->number); /* nobody else gives numbers */
    resident->last = entry->number;
    resident->asked = entry;
    status = handle_until(resident, entry->number, deadline_ns, answer, err);
    resident->asked = NULL;
    return status;
}

/* The turns up to a message: one that waits, by its number, or a new one (`entry`). */
static dw_status answer_message(dw_resident *resident, uint64_t waiting, const dw_node_message *message,
                                const dw_entry *entry, uint64_t deadline_ns, const dw_observer *observer,
                                dw_node_answer *answer, dw_error *err) {
    const dw_observer nobody = {0};
    dw_status status = dw_node_wake(resident, err);
    if (status != DW_OK) return status;
    dw_actor_observe(resident->actor, observer ? observer : &nobody);
    status = waiting ? handle_until(resident, waiting, deadline_ns, answer, err)
                     : ask_anew(resident, message, entry, deadline_ns, answer, err);
    if (answer->number != 0) dw_actor_observe(resident->actor, &nobody);
    else dw_node_let_go(resident); /* node.h rule 5 */
    return status;
}

/* With the books at hand: known, waiting, or new. */
static dw_status ask_resident(dw_resident *resident, const dw_node_message *message, const dw_entry *entry,
                              uint64_t deadline_ns, const dw_observer *observer, dw_node_answer *answer,
                              dw_error *err) {
    const dw_entry *known = dw_entries_with_key(&resident->answers, message->key);
    const dw_entry *waiting = dw_entries_with_key(&resident->waiting, message->key);
    dw_status status = DW_OK;
    if (known || waiting) status = check_same(known ? known : waiting, entry, err);
    if (status != DW_OK) return status;
    if (known) return remember(resident, known->number, answer, err);
    return answer_message(resident, waiting ? waiting->number : 0, message, entry, deadline_ns, observer, answer, err);
}

dw_status dw_node_ask(dw_node *node, const char *name, const dw_node_message *message, uint64_t deadline_ns,
                      const dw_observer *observer, dw_node_answer *answer, dw_error *err) {
    dw_resident *resident = NULL;
    dw_entry entry = {0};
    const dw_node_message timed = with_time(message);
    *answer = (dw_node_answer){0};
    dw_status status = check_room(NULL, message, err);
    if (status == DW_OK) status = dw_node_resident(node, name, &resident, err);
    if (status == DW_OK) status = dw_entry_of(message, resident->last + 1, &entry, err);
    if (status == DW_OK) status = ask_resident(resident, &timed, &entry, deadline_ns, observer, answer, err);
    dw_entry_deinit(&entry);
    return answer->status = status;
}

dw_status dw_node_await(dw_node *node, const char *name, uint64_t number, uint64_t deadline_ns,
                        const dw_observer *observer, dw_node_answer *answer, dw_error *err) {
    dw_resident *resident = NULL;
    *answer = (dw_node_answer){0};
    dw_status status = dw_node_resident(node, name, &resident, err);
    if (status == DW_OK && !dw_entries_numbered(&resident->waiting, number))
        status = dw_fail(err, DW_E_NOT_FOUND, "message %llu of %s does not wait", (unsigned long long)number, name);
    if (status == DW_OK)
        status = answer_message(resident, number, NULL, NULL, deadline_ns, observer, answer, err);
    return answer->status = status;
}

dw_status dw_node_drain(dw_node *node, const char *name, uint64_t deadline_ns, const dw_observer *observer,
                        uint32_t *handled, uint32_t *failed, dw_error *err) {
    dw_resident *resident = NULL;
    *handled = *failed = 0;
    dw_status status = dw_node_resident(node, name, &resident, err);
    if (status == DW_OK && resident->waiting.count > 0) status = dw_node_wake(resident, err);
    if (status != DW_OK || resident->waiting.count == 0) return status;
    const dw_observer nobody = {0};
    dw_actor_observe(resident->actor, observer ? observer : &nobody);
    while (resident->waiting.count > 0) {
        dw_turn_result turn;
        status = handle_one(resident, deadline_ns, &turn, err);
        free(turn.reply);
        if (resident->handled == 0) {
            dw_node_let_go(resident);
            return status;
        }
        ++*handled;
        if (status == DW_OK) continue;
        ++*failed;
        tell_of_failed_turn(resident, status, err);
    }
    dw_actor_observe(resident->actor, &nobody);
    return DW_OK;
}
