/* gemm.c: matrix product by a device, on matrices in this program's own memory: nothing is handed over but addresses.
 *
 * A message is a list of settings, all optional:
 *
 *   n=512           order of the matrices, 1 to 2048
 *   seed=1          what they are filled from
 *   device=cpu      who multiplies; default: the actor's device
 *   copy=1          through explicit copies, for comparison
 *   data=exact      entries are eighths in [-1, 1): every partial sum is a float, so each element of the product must be right to the bit
 *   data=real       any floats in [-1, 1): each element must be within the rounding bound of a sum of n products
 *   check=all       elements that are verified: all (the default up to n=512), or that many, spread evenly (default above: 65536)
 *   reserve=BYTES   instead of all that: makes this program's memory at least that big, and says how big it is
 *
 * The reply: n=.. wrong=.. checked=.. worst=.. compute_ns=.. copied=.. a=.. b=.. product=..   (the last three: addresses of the
 * matrices, row by row, F32). With a and b of n x n: product[r][c] = sum over k of b[r][k] * a[c][k], as DW_NODE_MUL_MAT says.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dw.h"

enum { N_MAX = 2048, SAMPLES = 65536, ALL_UP_TO = 512, MESSAGE_BYTES_MAX = 1024, DEVICE_BYTES_MAX = 32 };

/* Alignment of the matrices: a page of WebAssembly, so a page of every machine. Then devices can use the memory in place. */
enum { PAGE_BYTES = 65536, PAGES_MAX = 65536 };

typedef struct settings {
    uint32_t n;
    uint64_t seed, check, reserve; /* check 0: the default */
    char device[DEVICE_BYTES_MAX];
    bool copy, exact;
} settings;

static struct { float *a, *b, *product; uint32_t n; } matrices;

/* --- settings ------------------------------------------------------------------------------------------------ */

/* One "name=value". False: unknown name, or not a value for it. */
static bool set(settings *s, const char *name, const char *value) {
    if (strcmp(name, "device") == 0) return snprintf(s->device, sizeof s->device, "%s", value) < DEVICE_BYTES_MAX;
    if (strcmp(name, "data") == 0) {
        s->exact = strcmp(value, "exact") == 0;
        return s->exact || strcmp(value, "real") == 0;
    }
    if (strcmp(name, "check") == 0 && strcmp(value, "all") == 0) {
        s->check = UINT64_MAX;
        return true;
    }
    char *end;
    uint64_t number = strtoull(value, &end, 10);
    if (end == value || *end) return false;
    if (strcmp(name, "n") == 0) {
        s->n = number <= N_MAX ? (uint32_t)number : 0;
        return s->n != 0;
    }
    if (strcmp(name, "seed") == 0) s->seed = number;
    else if (strcmp(name, "check") == 0) s->check = number;
    else if (strcmp(name, "reserve") == 0) s->reserve = number;
    else if (strcmp(name, "copy") == 0) s->copy = number != 0;
    else return false;
    return true;
}

/* Reads the message into *s. NULL, or the word that is wrong. The message is cut into words. */
static const char *parse(char *message, settings *s) {
    *s = (settings){.n = 512, .seed = 1, .exact = true};
    for (char *word = strtok(message, " \n"); word; word = strtok(NULL, " \n")) {
        char *value = strchr(word, '=');
        if (!value) return word;
        *value = '\0';
        if (!set(s, word, value + 1)) return word;
    }
    return NULL;
}

/* --- matrices ------------------------------------------------------------------------------------------------ */

static float *make_matrix(uint32_t n) {
    size_t bytes = ((size_t)n * n * sizeof(float) + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    return aligned_alloc(PAGE_BYTES, bytes);
}

/* Room for three matrices of order n; it is kept for the next message of that order. */
static bool make_matrices(uint32_t n) {
    if (matrices.n == n) return true;
    free(matrices.a);
    free(matrices.b);
    free(matrices.product);
    matrices.a = make_matrix(n);
    matrices.b = make_matrix(n);
    matrices.product = make_matrix(n);
    bool made = matrices.a && matrices.b && matrices.product;
    matrices.n = made ? n : 0;
    return made;
}

/* splitmix64 (Steele, Lea, Flood 2014): one multiply-xor cascade per number, any seed will do. */
static uint64_t next_random(uint64_t *state) {
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* Exact entries are k/8 with -8 <= k < 8: products are multiples of 1/64, and sums of up to 2048 of them stay below 2^11, so 17 bits hold
 * every partial sum, in any order. A float has 24. */
static void fill(float *matrix, uint32_t n, bool exact, uint64_t *state) {
    for (size_t i = 0; i < (size_t)n * n; i++) {
        uint64_t random = next_random(state);
        matrix[i] = exact ? (float)((int32_t)(random >> 60) - 8) / 8 : (float)((int32_t)(random >> 40) - (1 << 23)) / (float)(1 << 23);
    }
}

typedef struct verdict { uint64_t checked, wrong; double worst; } verdict;

static verdict verify(const settings *s) {
    size_t n = s->n, n_elements = n * n;
    uint64_t wanted = s->check ? s->check : n <= ALL_UP_TO ? n_elements : SAMPLES;
    verdict v = {.checked = wanted < n_elements ? wanted : n_elements};
    /* |float sum - sum| <= n * epsilon * sum of |products| (Higham, Accuracy and Stability, 3.1); products are at most 1. */
    double bound = s->exact ? 0 : (double)n * (double)n * 1.2e-7;
    for (uint64_t i = 0; i < v.checked; i++) {
        size_t at = (size_t)((double)i * (double)n_elements / (double)v.checked);
        const float *a = matrices.a + at % n * n, *b = matrices.b + at / n * n;
        double sum = 0;
        for (size_t k = 0; k < n; k++) sum += (double)a[k] * (double)b[k];
        double error = fabs(sum - (double)matrices.product[at]);
        if (!(error <= bound)) v.wrong++; /* so written, NaN is wrong */
        if (!(error <= v.worst)) v.worst = error;
    }
    return v;
}

/* --- messages ------------------------------------------------------------------------------------------------ */

static int32_t multiply(const settings *s) {
    if (!make_matrices(s->n)) return dw_replyf("no memory for three matrices of order %u", s->n);
    uint64_t state = s->seed;
    fill(matrices.a, s->n, s->exact, &state);
    fill(matrices.b, s->n, s->exact, &state);
    memset(matrices.product, 0xff, (size_t)s->n * s->n * sizeof(float)); /* NaN: what the device leaves out is noticed */

    dw_tensor tensors[] = {dw_matrix(matrices.a, s->n, s->n), dw_matrix(matrices.b, s->n, s->n), dw_matrix(matrices.product, s->n, s->n)};
    dw_node node = {.op = DW_NODE_MUL_MAT, .a = 0, .b = 1, .out = 2};
    dw_computation computation = {.device = s->device[0] ? s->device : NULL, .tensors = tensors, .n_tensors = 3,
                                  .nodes = &node, .n_nodes = 1, .copy = s->copy};
    int32_t status = dw_compute(&computation);
    if (status < 0) return dw_replyf("error=%d %s", status, dw_status_text(status));
    verdict v = verify(s);
    return dw_replyf("n=%u wrong=%" PRIu64 " checked=%" PRIu64 " worst=%g compute_ns=%" PRIu64 " copied=%" PRIu64 " a=%u b=%u product=%u",
                     s->n, v.wrong, v.checked, v.worst, computation.compute_ns, computation.copied_bytes,
                     dw_address(matrices.a), dw_address(matrices.b), dw_address(matrices.product));
}

static int32_t reserve(uint64_t bytes) {
#ifdef __wasm__
    uint64_t pages = bytes / PAGE_BYTES + (bytes % PAGE_BYTES != 0), now = __builtin_wasm_memory_size(0);
    if (pages > now && pages <= PAGES_MAX) __builtin_wasm_memory_grow(0, (size_t)(pages - now)); /* the reply tells whether it worked */
    return dw_replyf("memory=%" PRIu64, (uint64_t)__builtin_wasm_memory_size(0) * PAGE_BYTES);
#else
    return dw_replyf("memory=%" PRIu64, bytes);
#endif
}

int32_t dw_receive(void) {
    char message[MESSAGE_BYTES_MAX];
    uint32_t size = 0;
    int32_t status = dw_message(message, sizeof message, &size);
    if (status == DW_E_FULL)
        dw_log(DW_LOG_ERROR, "That message has %u bytes; at most %d are taken.", size, MESSAGE_BYTES_MAX - 1);
    if (status < 0) return status;
    settings s;
    const char *wrong = parse(message, &s);
    if (wrong) return dw_replyf("error=%d what is '%.40s'? Example: n=512 seed=1 device=cpu", DW_E_INVALID, wrong);
    return s.reserve ? reserve(s.reserve) : multiply(&s);
}
