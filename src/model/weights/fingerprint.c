/* fingerprint.c: what a model is, as hashes of its file.
 *
 * The weights' hash is the file's, or that of all parts together (dw_gguf_hash_join): the same weights split differently are another model here.
 * Hashing a large file at each start would cost seconds, so each file's hash is kept in the cache folder, under a name made from the
 * file's path, device, inode, size and time of change: another file, or a changed one, has another name.
 */
#include "model/weights/fingerprint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/os.h"

enum { CACHE_PATH_BYTES = 768 };

/* The name of the note about a file, or "" where there can be none. */
static void cache_path(const dw_gguf_part *part, char out[CACHE_PATH_BYTES]) {
    char folder[512], identity[1024], hex[DW_HASH_HEX_BYTES];
    dw_os_file file = DW_OS_FILE_NONE;
    dw_os_identity id;
    dw_hash hash;
    out[0] = 0;
    if (dw_os_cache_folder(folder, sizeof folder, NULL) != DW_OK) return;
    if (dw_os_open(part->path, DW_OS_READ, &file, NULL) != DW_OK) return;
    dw_status status = dw_os_identify(file, &id, NULL);
    dw_os_close(&file);
    if (status != DW_OK || id.size != part->bytes) return;
    int length = snprintf(identity, sizeof identity, "%s|%llu|%llu|%llu|%lld", part->path, (unsigned long long)id.device,
                          (unsigned long long)id.inode, (unsigned long long)id.size, (long long)id.mtime_ns);
    if (length < 0 || (size_t)length >= sizeof identity || dw_hash_of(identity, (size_t)length, &hash) != DW_OK) return;
    dw_hash_hex(&hash, hex);
    char hashes[576];
    snprintf(hashes, sizeof hashes, "%s/hashes", folder);
    if (dw_os_make_folders(hashes, NULL) == DW_OK) snprintf(out, CACHE_PATH_BYTES, "%s/%s", hashes, hex);
}

static bool read_note(const char *path, dw_hash *out) {
    uint8_t *text = NULL;
    size_t size = 0;
    if (path[0] == 0 || dw_os_read_file(path, DW_HASH_HEX_BYTES, &text, &size, NULL) != DW_OK) return false;
    bool good = dw_hash_parse((const char *)text, size, out) == DW_OK;
    free(text);
    return good;
}

static dw_status hash_part(const dw_gguf *gguf, uint32_t index, dw_hash *out, dw_error *err) {
    char path[CACHE_PATH_BYTES], hex[DW_HASH_HEX_BYTES];
    const dw_gguf_part part = dw_gguf_part_at(gguf, index);
    cache_path(&part, path);
    if (read_note(path, out)) return DW_OK;
    dw_status status = dw_gguf_hash_part(gguf, index, out, err);
    if (status != DW_OK || path[0] == 0) return status;
    dw_hash_hex(out, hex);
    dw_error why;
    if (dw_os_write_file(path, hex, strlen(hex), &why) != DW_OK) dw_log(DW_LOG_DEBUG, "fingerprint", "note=no reason=\"%s\"", why.text);
    return DW_OK;
}

static dw_status hash_weights(const dw_gguf *gguf, dw_hash *out, dw_error *err) {
    uint32_t n = dw_gguf_n_parts(gguf);
    dw_hash *hashes = calloc(n, sizeof *hashes);
    if (hashes == NULL) return dw_fail(err, DW_E_NO_MEMORY, "no memory for %u hashes", n);
    dw_status status = DW_OK;
    for (uint32_t i = 0; status == DW_OK && i < n; i++) status = hash_part(gguf, i, &hashes[i], err);
    if (status == DW_OK) status = dw_gguf_hash_join(hashes, n, out, err);
    free(hashes);
    return status;
}

/* The context chooses between short and long rope factors, and rows of one are not rows of the other. */
static dw_status hash_hyperparameters(const dw_gguf *gguf, const char *architecture, bool rope_is_long, dw_hash *out, dw_error *err) {
    char prefix[40];
    struct { dw_hash keys; uint8_t rope_is_long; } both;
    memset(&both, 0, sizeof both);
    snprintf(prefix, sizeof prefix, "%s.", architecture);
    dw_status status = dw_gguf_hash_keys(gguf, prefix, out, err);
    if (status != DW_OK || !rope_is_long) return status;
    both.keys = *out;
    both.rope_is_long = 1;
    return dw_hash_of(&both, sizeof both, out);
}

dw_status dw_fingerprint_find(const dw_gguf *gguf, const char *architecture, bool rope_is_long, dw_model_fingerprint *out, dw_error *err) {
    dw_status status = hash_weights(gguf, &out->weights, err);
    if (status == DW_OK) status = dw_gguf_hash_keys(gguf, "tokenizer.", &out->tokenizer, err);
    return status == DW_OK ? hash_hyperparameters(gguf, architecture, rope_is_long, &out->hyperparameters, err) : status;
}
