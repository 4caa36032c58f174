/* verify.c: the hashes of all sections, and what only the sections' bytes can show: padding is zero, no token is
 * negative, and no function either, but for the -1 that stands for none; logits are numbers to draw by; a program has
 * the hash that the state names.
 *
 * Threads take sections in file order. A section that fails keeps later ones from being started, never earlier ones, so
 * the section that is told is the first bad one of the file, whatever the threads did. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/drift.h"

enum { BUFFER_BYTES = 256 * 1024, THREADS_MAX = 64, THREAD_STACK_BYTES = 256 * 1024 };

typedef struct verification {
    const dw_checkpoint *checkpoint;
    atomic_size_t next;       /* section to take */
    atomic_size_t first_bad;  /* lowest section that failed; n = none */
    dw_os_mutex *mutex;       /* of what follows, and of lowering first_bad */
    dw_status status;
    dw_error error;
} verification;

typedef struct worker {
    verification *shared;
    dw_hasher *hasher;
    uint8_t *buffer;
} worker;

/* A token or the index of a function is negative when its highest bit is set; -1 in a table means no function. */
static bool is_bad_number(dw_drift_kind kind, const uint8_t *data) {
    if (!(data[3] & 0x80)) return false;
    return kind == DW_DRIFT_TOKENS || (data[0] & data[1] & data[2] & data[3]) != 0xFF;
}

static dw_status verify_logits(const dw_checkpoint_section *section, uint64_t at, const uint8_t *data, size_t size,
                               dw_error *err) {
    for (size_t i = 0; i < size; i += sizeof(float)) {
        float logit;
        memcpy(&logit, data + i, sizeof logit);
        if (dw_drift_is_bad_logit(logit))
            return dw_fail_at(err, DW_E_CORRUPT, section->offset + at + i,
                              "section %s: logit %" PRIu64 " is no number to draw by", section->name,
                              (at + i) / sizeof logit);
    }
    return DW_OK;
}

/* The module's own hash: the section's also covers the padding. It was hashed already, so a second look at the file
 * costs little. */
static dw_status verify_program(worker *self, const dw_checkpoint_section *section, dw_error *err) {
    const dw_checkpoint *checkpoint = self->shared->checkpoint;
    dw_status status = DW_OK;
    dw_hash actual;
    for (uint64_t at = 0; at < section->used_bytes && status == DW_OK; at += BUFFER_BYTES) {
        size_t n = (size_t)dw_min_u64(BUFFER_BYTES, section->used_bytes - at);
        status = dw_drift_read(&checkpoint->source, section->offset + at, self->buffer, n, err);
        if (status == DW_OK) status = dw_hasher_update(self->hasher, self->buffer, n);
    }
    if (status == DW_OK) status = dw_hasher_finish(self->hasher, &actual);
    if (status != DW_OK) return dw_fail(err, status, "section program: cannot be hashed");
    if (dw_hash_equal(&actual, &checkpoint->content.state.program)) return DW_OK;
    return dw_fail_at(err, DW_E_CORRUPT, section->offset,
                      "section program: is another program than the checkpoint names");
}

/* Looks at bytes [at, at+size) of a section; `at` is a multiple of 4. */
static dw_status check_bytes(const dw_drift_part *part, const dw_checkpoint_section *section, uint64_t at,
                             const uint8_t *data, size_t size, dw_error *err) {
    size_t used = at >= section->used_bytes ? 0 : (size_t)dw_min_u64(size, section->used_bytes - at);
    if (!dw_is_zero(data + used, size - used))
        return dw_fail(err, DW_E_CORRUPT, "section %s: padding is not zero", section->name);
    if (part->kind == DW_DRIFT_LOGITS) return verify_logits(section, at, data, used, err);
    if (part->kind != DW_DRIFT_TOKENS && part->kind != DW_DRIFT_TABLE) return DW_OK;
    for (size_t i = 0; i < used; i += 4) {
        if (is_bad_number(part->kind, data + i))
            return dw_fail_at(err, DW_E_CORRUPT, section->offset + at + i, "section %s: %s %" PRIu64 " is negative",
                              section->name, part->kind == DW_DRIFT_TOKENS ? "token" : "function", (at + i) / 4);
    }
    return DW_OK;
}

/* A wrong hash is told before what the wrong bytes would say. */
static dw_status verify_section(worker *self, size_t index, dw_error *err) {
    const dw_checkpoint *checkpoint = self->shared->checkpoint;
    const dw_checkpoint_section *section = &checkpoint->layout.sections[index];
    dw_status content = DW_OK, status = DW_OK;
    dw_error content_error;
    for (uint64_t at = 0; at < section->bytes; at += BUFFER_BYTES) {
        size_t n = (size_t)dw_min_u64(BUFFER_BYTES, section->bytes - at);
        status = dw_drift_read(&checkpoint->source, section->offset + at, self->buffer, n, err);
        if (status != DW_OK) return dw_error_prefix(err, status, "section %s", section->name);
        status = dw_hasher_update(self->hasher, self->buffer, n);
        if (status != DW_OK) return dw_fail(err, status, "section %s: cannot be hashed", section->name);
        if (content == DW_OK)
            content = check_bytes(&checkpoint->layout.parts[index], section, at, self->buffer, n, &content_error);
    }
    dw_hash actual;
    status = dw_hasher_finish(self->hasher, &actual);
    if (status != DW_OK) return dw_fail(err, status, "section %s: cannot be hashed", section->name);
    if (!dw_hash_equal(&actual, &section->hash))
        return dw_fail_at(err, DW_E_HASH, section->offset,
                          "section %s: its hash does not match, the file is damaged or was changed", section->name);
    if (content != DW_OK) {
        *err = content_error;
        return content;
    }
    bool holds_program = checkpoint->layout.parts[index].kind == DW_DRIFT_PROGRAM && section->used_bytes > 0;
    return holds_program ? verify_program(self, section, err) : DW_OK;
}

/* Keeps the failure of the lowest section. */
static void note_failure(verification *shared, size_t index, dw_status status, const dw_error *error) {
    if (shared->mutex) dw_os_mutex_lock(shared->mutex);
    if (index < atomic_load(&shared->first_bad)) {
        atomic_store(&shared->first_bad, index);
        shared->status = status;
        shared->error = *error;
    }
    if (shared->mutex) dw_os_mutex_unlock(shared->mutex);
}

static void work(void *argument) {
    worker *self = argument;
    verification *shared = self->shared;
    for (;;) {
        size_t index = atomic_fetch_add(&shared->next, 1);
        if (index >= shared->checkpoint->layout.n || index > atomic_load(&shared->first_bad)) return;
        dw_error error = {0};
        dw_status status = verify_section(self, index, &error);
        if (status == DW_OK) continue;
        note_failure(shared, index, status, &error);
        return; /* a hasher that failed in the middle is not used again */
    }
}

static dw_status worker_init(worker *self, verification *shared) {
    *self = (worker){.shared = shared, .buffer = malloc(BUFFER_BYTES)};
    return self->buffer ? dw_hasher_create(&self->hasher) : DW_E_NO_MEMORY;
}

static void worker_deinit(worker *self) {
    dw_hasher_destroy(self->hasher);
    free(self->buffer);
}

/* Starts as many helpers as it can get, at most n: one less only takes longer. */
static size_t start_helpers(verification *shared, worker *workers, dw_os_thread **threads, size_t n) {
    for (size_t i = 0; i < n; i++) {
        dw_status status = worker_init(&workers[i], shared);
        if (status == DW_OK)
            status = dw_os_thread_create("dw-verify", THREAD_STACK_BYTES, work, &workers[i], &threads[i], NULL);
        if (status == DW_OK) continue;
        worker_deinit(&workers[i]);
        return i;
    }
    return n;
}

dw_status dw_checkpoint_verify(dw_checkpoint *checkpoint, unsigned threads, dw_error *err) {
    verification shared = {.checkpoint = checkpoint};
    worker own, helpers[THREADS_MAX];
    dw_os_thread *running[THREADS_MAX];
    size_t n_helpers = 0, n_sections = checkpoint->layout.n;
    atomic_init(&shared.next, 0);
    atomic_init(&shared.first_bad, n_sections);
    dw_status status = worker_init(&own, &shared);
    if (status != DW_OK) {
        worker_deinit(&own);
        return dw_fail(err, status, "no memory to verify a checkpoint");
    }
    size_t wanted = (size_t)dw_min_u64(dw_min_u64(threads, THREADS_MAX), n_sections);
    /* Without the lock the calling thread does it alone. */
    if (wanted > 1 && dw_os_mutex_create(&shared.mutex, NULL) == DW_OK)
        n_helpers = start_helpers(&shared, helpers, running, wanted - 1);
    work(&own);
    for (size_t i = 0; i < n_helpers; i++) {
        dw_os_thread_join(running[i]);
        worker_deinit(&helpers[i]);
    }
    dw_os_mutex_destroy(shared.mutex);
    worker_deinit(&own);
    if (shared.status == DW_OK) atomic_store(&checkpoint->verified, true);
    else if (err) *err = shared.error;
    return shared.status;
}
