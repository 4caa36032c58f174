/* prove_matmul.c: guest memory -> device -> guest memory, with a result that is checked element by element. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/prove.h"
#include "device/compute.h"
#include "os/os.h"

/* --- an independent computation -------------------------------------------------------------------------------- */

/* product[r][c] = sum over k of b[r][k] * a[c][k], in double. A tile of the result stays in registers and first-level
 * cache; `stripe` is a transposed piece of a, so that the inner loop runs along memory. n is a multiple of TILE. */
enum { TILE_ROWS = 4, TILE = 64 };

static void add_tile(double sum[TILE_ROWS][TILE], const float *b, const double *stripe, size_t n) {
    for (size_t k = 0; k < n; k++) {
        for (int r = 0; r < TILE_ROWS; r++) {
            double factor = (double)b[(size_t)r * n + k];
            for (int c = 0; c < TILE; c++) sum[r][c] += factor * stripe[k * TILE + (size_t)c];
        }
    }
}

/* gemm fills its matrices with eighths, so every partial sum is exact in single precision: any difference is a wrong
 * element. */
static void compare_tile(double sum[TILE_ROWS][TILE], const float *product, size_t n, dw_matmul_result *out) {
    for (size_t r = 0; r < TILE_ROWS; r++) {
        for (size_t c = 0; c < TILE; c++) {
            double error = fabs(sum[r][c] - (double)product[r * n + c]);
            if (!(error <= 0)) out->wrong++; /* so written, NaN is wrong */
            if (!(error <= out->error_max)) out->error_max = error;
            out->checked++;
        }
    }
}

static dw_status check_product(const float *a, const float *b, const float *product, uint32_t order,
                               dw_matmul_result *out, dw_error *err) {
    const size_t n = order;
    if (n % TILE != 0) return dw_fail(err, DW_E_INTERNAL, "the check wants multiples of %d", TILE);
    double *stripe = malloc(n * TILE * sizeof *stripe);
    if (!stripe) return dw_fail(err, DW_E_NO_MEMORY, "no memory to check a product");
    for (size_t c = 0; c < n; c += TILE) {
        for (size_t k = 0; k < n; k++) {
            for (size_t i = 0; i < TILE; i++) stripe[k * TILE + i] = (double)a[(c + i) * n + k];
        }
        for (size_t r = 0; r < n; r += TILE_ROWS) {
            double sum[TILE_ROWS][TILE] = {{0}};
            add_tile(sum, b + r * n, stripe, n);
            compare_tile(sum, product + r * n + c, n, out);
        }
    }
    free(stripe);
    return DW_OK;
}

/* --- the guest ------------------------------------------------------------------------------------------------- */

/* The number behind "name=" in gemm's reply. */
static bool number_in_report(const char *reply, const char *name, uint64_t *out) {
    size_t length = strlen(name);
    for (const char *at = reply; at; at = strchr(at, ' ')) {
        at += *at == ' ';
        if (strncmp(at, name, length) == 0 && at[length] == '=') {
            char *end;
            *out = strtoull(at + length + 1, &end, 0);
            return end != at + length + 1;
        }
    }
    return false;
}

typedef struct guest_matrices { uint64_t a, b, product; } guest_matrices; /* guest pointers */

static dw_status ask_guest(dw_watch *watch, uint32_t n, dw_matmul_result *out, guest_matrices *at, dw_error *err) {
    char message[64];
    dw_turn_result turn;
    uint64_t compute_ns = 0;
    (void)snprintf(message, sizeof message, "n=%u seed=%u data=exact", n, n);
    dw_status status = dw_take_turn(watch, (dw_message){message, strlen(message)}, 0, &turn, err);
    const char *reply = turn.reply ? turn.reply : "";
    bool understood = status == DW_OK && number_in_report(reply, "wrong", &out->guest_wrong) &&
                      number_in_report(reply, "checked", &out->guest_checked) &&
                      number_in_report(reply, "compute_ns", &compute_ns) &&
                      number_in_report(reply, "copied", &out->copied_bytes) && number_in_report(reply, "a", &at->a) &&
                      number_in_report(reply, "b", &at->b) && number_in_report(reply, "product", &at->product);
    if (status == DW_OK && !understood) status = dw_fail(err, DW_E_UNSUPPORTED, "gemm answered \"%.120s\"", reply);
    dw_turn_free(&turn);
    return status;
}

/* --- times of both paths --------------------------------------------------------------------------------------- */

/* The same request as the guest's, made from outside so that it can be timed in parts; the window is the matrices'
 * pages. */
static dw_status time_path(dw_device *device, dw_region *region, const guest_matrices *at, uint32_t n, bool copy,
                           uint64_t *best_ns, uint64_t *compute_ns, dw_error *err) {
    char *base = dw_region_base(region);
    const uint64_t matrix_bytes = (uint64_t)n * n * sizeof(float), patience_ns = UINT64_C(2000000000);
    uint64_t first = dw_round_down_u64(dw_min_u64(dw_min_u64(at->a, at->b), at->product), DW_WASM_PAGE_BYTES);
    uint64_t end = dw_max_u64(dw_max_u64(at->a, at->b), at->product) + matrix_bytes;
    if (!dw_round_up_u64(end, DW_WASM_PAGE_BYTES, &end))
        return dw_fail(err, DW_E_RANGE, "gemm's matrices end outside its memory");
    const dw_compute_tensor tensors[3] = {{at->a - first, DW_COMPUTE_F32, n, n},
                                          {at->b - first, DW_COMPUTE_F32, n, n},
                                          {at->product - first, DW_COMPUTE_F32, n, n}};
    const dw_compute_node node = {DW_COMPUTE_MUL_MAT, 0, 1, 2};
    dw_compute_request request = {.window = base + first, .window_bytes = end - first, .region = region,
                                  .tensors = tensors, .n_tensors = 3, .nodes = &node, .n_nodes = 1, .copy = copy};
    uint64_t spent = 0;
    *best_ns = UINT64_MAX;
    for (int i = 0; i < 10 && spent < patience_ns; i++) {
        dw_compute_report report;
        dw_status status = dw_compute_run(device, &request, &report, err);
        if (status != DW_OK) return status;
        uint64_t total = report.prepare_ns + report.compute_ns + report.finish_ns;
        spent += total;
        if (total < *best_ns) {
            *best_ns = total;
            *compute_ns = report.compute_ns;
        }
    }
    return DW_OK;
}

static dw_status time_both(dw_device *device, dw_region *region, const guest_matrices *at, uint32_t n,
                           dw_matmul_result *out, dw_error *err) {
    dw_window window = {0};
    uint64_t ignored;
    dw_status status = dw_region_lend(region, 0, dw_region_size(region), &window, err);
    if (status != DW_OK) return status;
    status = time_path(device, region, at, n, false, &out->zero_copy_ns, &out->compute_ns, err);
    if (status == DW_OK) status = time_path(device, region, at, n, true, &out->copy_ns, &ignored, err);
    if (dw_region_return(region, window) != DW_OK && status == DW_OK)
        status = dw_fail(err, DW_E_INTERNAL, "a window was lost");
    return status;
}

dw_status dw_prove_matmul(dw_cli *cli, dw_runtime *runtime, uint32_t n, dw_matmul_result *out, dw_error *err) {
    char path[DW_PATH_BYTES];
    dw_program *program = NULL;
    dw_watch watch = {.cli = cli};
    dw_observer observer = dw_watch_observer(&watch);
    dw_actor_options options = {.name = "prove-gemm", .observer = &observer};
    guest_matrices at = {0};
    void *a = NULL, *b = NULL, *product = NULL;
    *out = (dw_matmul_result){.n = n};
    dw_status status = dw_find_program(cli, "gemm", path, err);
    if (status == DW_OK) status = dw_runtime_load_program(runtime, path, &program, err);
    if (status == DW_OK) status = dw_actor_create(runtime, program, &options, &watch.actor, err);
    if (status == DW_OK) status = ask_guest(&watch, n, out, &at, err);
    if (status != DW_OK) goto out;

    dw_guest_memory *memory = dw_actor_memory(watch.actor);
    const uint64_t bytes = (uint64_t)n * n * sizeof(float);
    if (!memory || dw_guest_view(memory, (uint32_t)at.a, bytes, 4, &a) != DW_OK ||
        dw_guest_view(memory, (uint32_t)at.b, bytes, 4, &b) != DW_OK ||
        dw_guest_view(memory, (uint32_t)at.product, bytes, 4, &product) != DW_OK) {
        status = dw_fail(err, DW_E_RANGE, "gemm's matrices are not where it says");
        goto out;
    }
    status = check_product(a, b, product, n, out, err);
    if (status == DW_OK) status = time_both(dw_runtime_device(runtime), dw_guest_region(memory), &at, n, out, err);
out:
    dw_actor_destroy(watch.actor);
    dw_watch_deinit(&watch);
    dw_program_release(program);
    return status;
}
