/* fingerprint.c: what a model is, as hashes of its file (docs/drift-format.md).
 *
 * Hashing a large model at each start would cost seconds, so the hash of its weights is kept in the cache folder, under
 * a name made from each part's path, device, inode, size and time of change: another file, or a changed one, has
 * another name. A note is trusted like compiled code: one that others could have written is not read.
 */
#include "model/weights/fingerprint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/os.h"

enum { CACHE_PATH_BYTES = 768 };

/* --- notes --------------------------------------------------------------------------------------------------- */

static bool identify_part(const dw_gguf_part *part, dw_hasher *all) {
    char text[1024];
    dw_os_file file = DW_OS_FILE_NONE;
    dw_os_identity id;
    if (part->path[0] == 0 || dw_os_open(part->path, DW_OS_READ, &file, NULL) != DW_OK) return false;
    dw_status status = dw_os_identify(file, &id, NULL);
    dw_os_close(&file);
    if (status != DW_OK || id.size != part->bytes) return false;
    int length = snprintf(text, sizeof text, "%s|%llu|%llu|%llu|%lld;", part->path, (unsigned long long)id.device,
                          (unsigned long long)id.inode, (unsigned long long)id.size, (long long)id.mtime_ns);
    return length > 0 && (size_t)length < sizeof text && dw_hasher_update(all, text, (size_t)length) == DW_OK;
}

/* The name of the note about a model's hash of this kind, or "" where there can be none. */
static void note_path(const dw_gguf *gguf, dw_fingerprint_kind kind, char out[CACHE_PATH_BYTES]) {
    static const char *const kinds[] = {[DW_FINGERPRINT_TENSORS] = "tensors;", [DW_FINGERPRINT_FILES] = "files;"};
    char folder[512], hashes[576], hex[DW_HASH_HEX_BYTES];
    dw_hasher *all = NULL;
    dw_hash hash;
    out[0] = 0;
    if (dw_os_cache_folder(folder, sizeof folder, NULL) != DW_OK || dw_hasher_create(&all) != DW_OK) return;
    bool known = dw_hasher_update(all, kinds[kind], strlen(kinds[kind])) == DW_OK;
    for (uint32_t i = 0; known && i < dw_gguf_n_parts(gguf); i++) {
        const dw_gguf_part part = dw_gguf_part_at(gguf, i);
        known = identify_part(&part, all);
    }
    if (known && dw_hasher_finish(all, &hash) == DW_OK) {
        dw_hash_hex(&hash, hex);
        snprintf(hashes, sizeof hashes, "%s/hashes", folder);
        if (dw_os_make_folders(hashes, NULL) == DW_OK) snprintf(out, CACHE_PATH_BYTES, "%s/%s", hashes, hex);
    }
    dw_hasher_destroy(all);
}

static bool read_hash_note(const char *path, dw_hash *out) {
    uint8_t *text = NULL;
    size_t size = 0;
    if (path[0] == 0 || dw_os_read_own_file(path, DW_HASH_HEX_BYTES, &text, &size, NULL) != DW_OK) return false;
    bool good = dw_hash_parse((const char *)text, size, out) == DW_OK;
    free(text);
    return good;
}

static void write_hash_note(const char *path, const dw_hash *hash) {
    char hex[DW_HASH_HEX_BYTES];
    dw_error why;
    if (path[0] == 0) return;
    dw_hash_hex(hash, hex);
    if (dw_os_write_file(path, hex, strlen(hex), &why) != DW_OK)
        dw_log(DW_LOG_DEBUG, "fingerprint", "note=no reason=\"%s\"", why.text);
}

/* --- hashes -------------------------------------------------------------------------------------------------- */

static dw_status hash_files(const dw_gguf *gguf, dw_hash *out, dw_error *err) {
    uint32_t n = dw_gguf_n_parts(gguf);
    dw_hash *hashes = calloc(n, sizeof *hashes);
    if (hashes == NULL) return dw_fail(err, DW_E_NO_MEMORY, "no memory for %u hashes", n);
    dw_status status = DW_OK;
    for (uint32_t i = 0; status == DW_OK && i < n; i++) status = dw_gguf_hash_part(gguf, i, &hashes[i], err);
    if (status == DW_OK) status = dw_gguf_hash_join(hashes, n, out, err);
    free(hashes);
    return status;
}

static dw_status hash_weights(const dw_gguf *gguf, dw_fingerprint_kind kind, dw_hash *out, dw_error *err) {
    char path[CACHE_PATH_BYTES];
    note_path(gguf, kind, path);
    if (read_hash_note(path, out)) return DW_OK;
    dw_status status = kind == DW_FINGERPRINT_FILES ? hash_files(gguf, out, err) : dw_gguf_hash_tensors(gguf, out, err);
    if (status == DW_OK) write_hash_note(path, out);
    return status;
}

/* The context chooses between short and long rope factors, and rows of one are not rows of the other. */
static dw_status hash_hyperparameters(const dw_gguf *gguf, const char *architecture, bool rope_is_long, dw_hash *out,
                                      dw_error *err) {
    char prefix[40];
    struct { dw_hash keys; uint8_t rope_is_long; } both;
    memset(&both, 0, sizeof both);
    snprintf(prefix, sizeof prefix, "%s.", architecture);
    dw_status status = dw_gguf_hash_keys(gguf, prefix, NULL, out, err);
    if (status != DW_OK || !rope_is_long) return status;
    both.keys = *out;
    both.rope_is_long = 1;
    return dw_hash_of(&both, sizeof both, out);
}

dw_status dw_fingerprint_find(const dw_gguf *gguf, const char *architecture, bool rope_is_long,
                              dw_fingerprint_kind kind, dw_model_fingerprint *out, dw_error *err) {
    const char *except = kind == DW_FINGERPRINT_FILES ? NULL : "tokenizer.chat_template";
    dw_status status = hash_weights(gguf, kind, &out->weights, err);
    if (status == DW_OK) status = dw_gguf_hash_keys(gguf, "tokenizer.", except, &out->tokenizer, err);
    return status == DW_OK ? hash_hyperparameters(gguf, architecture, rope_is_long, &out->hyperparameters, err)
                           : status;
}
