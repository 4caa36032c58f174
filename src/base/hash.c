/* hash.c: SHA-256 by libcrypto's EVP interface. */
#include "base/hash.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

struct dw_hasher {
    EVP_MD_CTX *context;
};

/* Also re-arms a finished context; without a type it keeps the one it has, which saves libcrypto a look-up. */
static bool start_hash(EVP_MD_CTX *context, const EVP_MD *type) { return EVP_DigestInit_ex(context, type, NULL) == 1; }

dw_status dw_hasher_create(dw_hasher **out) {
    *out = NULL;
    dw_hasher *hasher = calloc(1, sizeof *hasher);
    if (!hasher) return DW_E_NO_MEMORY;
    hasher->context = EVP_MD_CTX_new();
    if (!hasher->context || !start_hash(hasher->context, EVP_sha256())) {
        dw_hasher_destroy(hasher);
        return DW_E_NO_MEMORY;
    }
    *out = hasher;
    return DW_OK;
}

void dw_hasher_destroy(dw_hasher *hasher) {
    if (!hasher) return;
    EVP_MD_CTX_free(hasher->context);
    free(hasher);
}

dw_status dw_hasher_update(dw_hasher *hasher, const void *data, size_t size) {
    return EVP_DigestUpdate(hasher->context, data, size) == 1 ? DW_OK : DW_E_INTERNAL;
}

dw_status dw_hasher_finish(dw_hasher *hasher, dw_hash *out) {
    unsigned size = 0;
    *out = (dw_hash){{0}};
    if (EVP_DigestFinal_ex(hasher->context, out->bytes, &size) != 1 || size != DW_HASH_BYTES) return DW_E_INTERNAL;
    return start_hash(hasher->context, NULL) ? DW_OK : DW_E_INTERNAL;
}

dw_status dw_hash_of(const void *data, size_t size, dw_hash *out) {
    unsigned written = 0;
    *out = (dw_hash){{0}};
    if (EVP_Digest(data, size, out->bytes, &written, EVP_sha256(), NULL) != 1) return DW_E_NO_MEMORY;
    return written == DW_HASH_BYTES ? DW_OK : DW_E_INTERNAL;
}

bool dw_hash_equal(const dw_hash *a, const dw_hash *b) { return memcmp(a->bytes, b->bytes, DW_HASH_BYTES) == 0; }

void dw_hash_hex(const dw_hash *hash, char out[DW_HASH_HEX_BYTES]) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < DW_HASH_BYTES; i++) {
        out[2 * i] = digits[hash->bytes[i] >> 4];
        out[2 * i + 1] = digits[hash->bytes[i] & 15];
    }
    out[DW_HASH_HEX_BYTES - 1] = '\0';
}

static int hex_digit_value(char digit) {
    if (digit >= '0' && digit <= '9') return digit - '0';
    if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
    if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
    return -1;
}

dw_status dw_hash_parse(const char *hex, size_t length, dw_hash *out) {
    *out = (dw_hash){{0}};
    if (length != 2 * DW_HASH_BYTES) return DW_E_FORMAT;
    dw_hash parsed;
    for (size_t i = 0; i < DW_HASH_BYTES; i++) {
        int high = hex_digit_value(hex[2 * i]), low = hex_digit_value(hex[2 * i + 1]);
        if (high < 0 || low < 0) return DW_E_FORMAT;
        parsed.bytes[i] = (uint8_t)(high * 16 + low);
    }
    *out = parsed;
    return DW_OK;
}
