/* code_cache.c: compiled code on disk.
 *
 * File <folder>/<program hash>-<engine key>.cwasm:
 *      0  8 bytes  "DWCODE1\n"
 *      8 32 bytes  SHA-256 of: engine key, program hash, code
 *     40           code, as Wasmtime serialises it
 *
 * To load code is to run it. So it is taken only from a file that belongs to this user and that nobody else can write
 * (the folder is made with mode 0700, files with 0600), under a name that says what it must be, and with a hash that
 * ties content to that name: a file that was cut short, mixed up or flipped is not taken. Someone who can write as this
 * user could as well replace the runtime. */
#include "wasm/engine.h"

#include <stdlib.h>
#include <string.h>

static const char magic[8] = {'D', 'W', 'C', 'O', 'D', 'E', '1', '\n'};
enum { HEADER_BYTES = sizeof magic + DW_HASH_BYTES };
#define CODE_BYTES_MAX (DW_PROGRAM_BYTES_MAX * 16) /* measured: code is two to three times its module */

static char *path_of(const dw_wasm_engine *engine, const dw_hash *program) {
    static const char ending[] = ".cwasm";
    size_t folder = strlen(engine->code_folder);
    char *path = malloc(folder + 1 + DW_HASH_HEX_BYTES + DW_ENGINE_KEY_BYTES + sizeof ending);
    if (!path) return NULL;
    memcpy(path, engine->code_folder, folder);
    char *to = path + folder;
    *to++ = '/';
    dw_hash_hex(program, to);
    to += DW_HASH_HEX_BYTES - 1;
    *to++ = '-';
    memcpy(to, engine->key, DW_ENGINE_KEY_BYTES - 1);
    memcpy(to + DW_ENGINE_KEY_BYTES - 1, ending, sizeof ending);
    return path;
}

static dw_status hash_code(const dw_wasm_engine *engine, const dw_hash *program, const void *code, size_t size,
                           dw_hash *out) {
    dw_hasher *hasher;
    dw_status status = dw_hasher_create(&hasher);
    if (status != DW_OK) return status;
    status = dw_hasher_update(hasher, engine->key, sizeof engine->key);
    if (status == DW_OK) status = dw_hasher_update(hasher, program->bytes, sizeof program->bytes);
    if (status == DW_OK) status = dw_hasher_update(hasher, code, size);
    if (status == DW_OK) status = dw_hasher_finish(hasher, out);
    dw_hasher_destroy(hasher);
    return status;
}

/* Strips the header in place. */
static dw_status check_code(const dw_wasm_engine *engine, const dw_hash *program, uint8_t *file, size_t *size) {
    dw_hash expected, found;
    if (*size < HEADER_BYTES) return DW_E_TRUNCATED;
    if (memcmp(file, magic, sizeof magic) != 0) return DW_E_FORMAT;
    memcpy(expected.bytes, file + sizeof magic, sizeof expected.bytes);
    dw_status status = hash_code(engine, program, file + HEADER_BYTES, *size - HEADER_BYTES, &found);
    if (status != DW_OK) return status;
    if (!dw_hash_equal(&expected, &found)) return DW_E_HASH;
    *size -= HEADER_BYTES;
    memmove(file, file + HEADER_BYTES, *size);
    return DW_OK;
}

dw_status dw_code_cache_load(const dw_wasm_engine *engine, const dw_hash *program, uint8_t **out, size_t *size) {
    *out = NULL;
    *size = 0;
    char *path = engine->code_folder ? path_of(engine, program) : NULL;
    if (!path) return DW_E_NOT_FOUND;
    dw_status status = dw_os_read_own_file(path, CODE_BYTES_MAX, out, size, NULL);
    if (status == DW_OK) status = check_code(engine, program, *out, size);
    if (status != DW_OK && status != DW_E_NOT_FOUND)
        dw_log(DW_LOG_WARN, "code_cache", "file=%s problem=%s action=compile", path, dw_status_name(status));
    free(path);
    if (status == DW_OK) return DW_OK;
    free(*out);
    *out = NULL;
    return DW_E_NOT_FOUND;
}

void dw_code_cache_store(const dw_wasm_engine *engine, const dw_hash *program, const void *code, size_t size) {
    if (!engine->code_folder || size > CODE_BYTES_MAX - HEADER_BYTES) return;
    dw_hash hash;
    char *path = path_of(engine, program);
    uint8_t *file = malloc(HEADER_BYTES + size);
    dw_status status = path && file ? hash_code(engine, program, code, size, &hash) : DW_E_NO_MEMORY;
    if (status == DW_OK) {
        memcpy(file, magic, sizeof magic);
        memcpy(file + sizeof magic, hash.bytes, sizeof hash.bytes);
        memcpy(file + HEADER_BYTES, code, size);
        status = dw_os_write_file(path, file, HEADER_BYTES + size, NULL);
    }
    if (status != DW_OK) dw_log(DW_LOG_WARN, "code_cache", "problem=%s action=none", dw_status_name(status));
    free(file);
    free(path);
}
