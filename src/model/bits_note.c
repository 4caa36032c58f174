/* bits_note.c: what was found out about bits, kept in the cache folder: trying costs as much as evaluating some 40
 * tokens.
 *
 * The note's name is made from all that decides: this program (path, inode, size, time of change: a rebuilt one tries
 * again), the profile, the number of threads, kind and shape of every matrix, and the kind of attention of every layer.
 * Models of one structure share a note. It is trusted like compiled code: a note that others could have written is not
 * read.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ggml.h"
#include "model/model_internal.h"

enum { NOTE_BYTES_MAX = 256 };

typedef struct shape { int32_t type; int64_t size[3]; } shape;

static bool hash_shapes(const dw_model *model, dw_hash *out) {
    size_t n = 0;
    for (struct ggml_tensor *t = ggml_get_first_tensor(model->weights.context); t != NULL; t =
        ggml_get_next_tensor(model->weights.context, t)) {
        n++;
    }
    const uint32_t n_layers = model->hp.n_layers;
    shape *shapes = calloc(n + n_layers, sizeof *shapes);
    if (shapes == NULL) return false;
    size_t i = 0;
    for (struct ggml_tensor *t = ggml_get_first_tensor(model->weights.context); t != NULL; t =
        ggml_get_next_tensor(model->weights.context, t)) {
        shapes[i].type = (int32_t)t->type;
        for (int d = 0; d < 3; d++) shapes[i].size[d] = t->ne[d];
        i++;
    }
    for (uint32_t layer = 0; layer < n_layers; layer++, i++) {
        shapes[i].type = -1;
        shapes[i].size[0] = dw_layer_is_windowed(&model->hp, layer);
        shapes[i].size[1] = model->hp.layers[layer].rope;
        shapes[i].size[2] = model->hp.layers[layer].n_heads;
    }
    bool done = dw_hash_of(shapes, i * sizeof *shapes, out) == DW_OK;
    free(shapes);
    return done;
}

static bool identify_program(char *out, size_t size) {
    char path[1024];
    dw_os_file file = DW_OS_FILE_NONE;
    dw_os_identity id;
    if (dw_os_executable_path(path, sizeof path, NULL) != DW_OK || dw_os_open(path, DW_OS_READ, &file, NULL) != DW_OK) {
        return false;
    }
    dw_status status = dw_os_identify(file, &id, NULL);
    dw_os_close(&file);
    int length = snprintf(out, size, "%s|%llu|%llu|%llu|%lld", path, (unsigned long long)id.device,
                          (unsigned long long)id.inode,
                          (unsigned long long)id.size, (long long)id.mtime_ns);
    return status == DW_OK && length > 0 && (size_t)length < size;
}

void dw_bits_note_path(const dw_model *model, char out[DW_BITS_NOTE_PATH_BYTES]) {
    char folder[512], notes[576], program[1200], profile[DW_PROFILE_BYTES], key[2048], hex[DW_HASH_HEX_BYTES];
    dw_hash shapes, hash;
    out[0] = 0;
    if (!identify_program(program, sizeof program) || !hash_shapes(model, &shapes)) return;
    dw_model_profile(model, profile);
    dw_hash_hex(&shapes, hex);
    int length = snprintf(key, sizeof key, "%s|%s|%s|%s|threads=%u|heads=%u/%u x %u|experts=%u|context=%u", program,
                          profile, model->info.architecture, hex,
                          dw_device_threads(model->device), model->hp.n_heads, model->hp.n_heads_kv,
                          model->hp.head_dim, model->hp.n_experts_used, model->info.context_tokens);
    if (length < 0 || (size_t)length >= sizeof key || dw_hash_of(key, (size_t)length, &hash) != DW_OK) return;
    if (dw_os_cache_folder(folder, sizeof folder, NULL) != DW_OK) return;
    snprintf(notes, sizeof notes, "%s/bits", folder);
    dw_hash_hex(&hash, hex);
    if (dw_os_make_folders(notes, NULL) == DW_OK) snprintf(out, DW_BITS_NOTE_PATH_BYTES, "%s/%s", notes, hex);
}

bool dw_bits_read_note(const char *path, dw_bits *bits) {
    uint8_t *text = NULL;
    size_t size = 0;
    if (path[0] == 0 || dw_os_read_own_file(path, NOTE_BYTES_MAX, &text, &size, NULL) != DW_OK) return false;
    char wide[DW_BITS_TYPES + 1] = "", whole[NOTE_BYTES_MAX + 1];
    unsigned experts = 0, batches = 0, chunks = 0, packs = 0;
    memcpy(whole, text, size);
    whole[size] = 0;
    free(text);
    if (sscanf(whole, "wide=%64[01];experts=%u;batches=%1u;chunks=%1u;packs=%1u\n", wide, &experts, &batches, &chunks,
               &packs) != 5) {
        return false;
    }
    if (strlen(wide) != DW_BITS_TYPES || experts == 0 || experts > DW_BATCH_PARTS_MAX || batches > 1 || chunks > 1 ||
        packs > 1) {
        return false;
    }
    for (size_t i = 0; i < DW_BITS_TYPES; i++) bits->wide[i] = wide[i] == '1';
    bits->experts_columns = experts;
    bits->batches = batches == 1;
    bits->chunks = chunks == 1;
    bits->packs = packs == 1;
    return true;
}

void dw_bits_write_note(const char *path, const dw_bits *bits) {
    char text[NOTE_BYTES_MAX], wide[DW_BITS_TYPES + 1];
    dw_error why;
    if (path[0] == 0) return;
    for (size_t i = 0; i < DW_BITS_TYPES; i++) wide[i] = bits->wide[i] ? '1' : '0';
    wide[DW_BITS_TYPES] = 0;
    int length = snprintf(text, sizeof text, "wide=%s;experts=%u;batches=%u;chunks=%u;packs=%u\n", wide,
                          bits->experts_columns, bits->batches, bits->chunks,
                          bits->packs);
    if (dw_os_write_file(path, text, (size_t)length, &why) != DW_OK) {
        dw_log(DW_LOG_DEBUG, "bits", "note=no reason=\"%s\"", why.text);
    }
}
