/* Devices and compute graphs, on the device named by the first argument (default cpu). Skipped where it is not there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "device/compute.h"
#include "ggml.h"
#include "os/os.h"

static const char *device_name = "cpu";
static dw_device *device;

typedef struct matrices { float *a, *b, *out; uint32_t n; uint8_t *window; uint64_t window_bytes; } matrices;

static uint32_t next_random(uint64_t *state) {
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33);
}

static void *map_window(uint64_t bytes) {
    void *window = NULL;
    assert_int_equal(dw_os_map_reserve((size_t)bytes, &window, NULL), DW_OK);
    assert_int_equal(dw_os_map_anonymous(window, (size_t)bytes, NULL), DW_OK);
    return window;
}

/* Whole numbers: every sum is exact in F32 whatever the order of additions, so an element is right or wrong, not near. */
static matrices matrices_make(uint32_t n, bool whole) {
    matrices m = {.n = n};
    uint64_t one = (uint64_t)n * n * sizeof(float), page = dw_os_page_bytes(), state = 42 + n;
    assert_true(dw_round_up_u64(one, page, &one));
    m.window_bytes = 3 * one;
    m.window = map_window(m.window_bytes);
    m.a = (float *)(void *)m.window;
    m.b = (float *)(void *)(m.window + one);
    m.out = (float *)(void *)(m.window + 2 * one);
    for (uint64_t i = 0; i < (uint64_t)n * n; i++) {
        uint32_t x = next_random(&state), y = next_random(&state);
        m.a[i] = whole ? (float)((int)(x % 17) - 8) : (float)x / 2147483648.0f - 0.5f;
        m.b[i] = whole ? (float)((int)(y % 17) - 8) : (float)y / 2147483648.0f - 0.5f;
    }
    return m;
}

static void matrices_free(matrices *m) { dw_os_unmap(m->window, (size_t)m->window_bytes); }

static dw_compute_report multiply(matrices *m, bool copy) {
    uint64_t step = m->window_bytes / 3;
    dw_compute_tensor tensors[3] = {{0, DW_COMPUTE_F32, m->n, m->n}, {step, DW_COMPUTE_F32, m->n, m->n}, {2 * step, DW_COMPUTE_F32, m->n, m->n}};
    dw_compute_node node = {DW_COMPUTE_MUL_MAT, 0, 1, 2};
    dw_compute_request request = {.window = m->window, .window_bytes = m->window_bytes, .tensors = tensors, .n_tensors = 3,
                                  .nodes = &node, .n_nodes = 1, .copy = copy};
    dw_compute_report report;
    dw_error err = {0};
    memset(m->out, 0xff, (size_t)m->n * m->n * sizeof(float)); /* NaN: an element that is not computed shows */
    dw_status status = dw_compute_run(device, &request, &report, &err);
    if (status != DW_OK) fail_msg("%s", err.text);
    return report;
}

static double expected(const matrices *m, uint32_t row, uint32_t column) {
    double sum = 0;
    for (uint32_t k = 0; k < m->n; k++) sum += (double)m->b[(size_t)row * m->n + k] * (double)m->a[(size_t)column * m->n + k];
    return sum;
}

/* Every element up to 512; every 7th row above, which still meets every tile of a kernel. */
static uint64_t wrong_elements(const matrices *m, double tolerance) {
    uint64_t wrong = 0;
    for (uint32_t row = 0; row < m->n; row += m->n > 512 ? 7 : 1) {
        for (uint32_t column = 0; column < m->n; column += m->n > 512 ? 3 : 1) {
            double difference = (double)m->out[(size_t)row * m->n + column] - expected(m, row, column);
            if (!(difference <= tolerance && difference >= -tolerance)) wrong++;
        }
    }
    return wrong;
}

static void product_in_place_and_copied(uint32_t n) {
    bool wraps = dw_device_info_view(device)->can_wrap;
    for (int copy = 0; copy < 2; copy++) {
        matrices m = matrices_make(n, true);
        dw_ledger before = dw_device_ledger(device);
        dw_compute_report report = multiply(&m, copy != 0);
        dw_ledger after = dw_device_ledger(device);
        uint64_t one = (uint64_t)n * n * sizeof(float);
        bool copied = copy != 0 || !wraps;
        assert_int_equal(report.wrapped_bytes, copied ? 0 : m.window_bytes);
        assert_int_equal(report.copied_bytes, copied ? 3 * one : 0);
        assert_int_equal(after.copied_in - before.copied_in, copied ? 2 * one : 0);
        assert_int_equal(after.copied_out - before.copied_out, copied ? one : 0);
        assert_int_equal(after.allocated_now, before.allocated_now);
        assert_int_equal(wrong_elements(&m, 0), 0);
        matrices_free(&m);
    }
}

static void product_128_is_exact(void **state) { (void)state; product_in_place_and_copied(128); }
static void product_512_is_exact(void **state) { (void)state; product_in_place_and_copied(512); }
static void product_2048_is_exact(void **state) { (void)state; product_in_place_and_copied(2048); }

static void product_of_fractions_is_near(void **state) {
    (void)state;
    matrices m = matrices_make(512, false);
    multiply(&m, false);
    /* 512 products below 0.25, each addition off by at most 2^-24 of a sum below 128; GPUs may round the factors to 11 bits. */
    assert_int_equal(wrong_elements(&m, dw_device_info_view(device)->kind == DW_DEVICE_CPU ? 1e-4 : 2e-2), 0);
    matrices_free(&m);
}

static void wrap_shares_pages_in_both_directions(void **state) {
    (void)state;
    if (!dw_device_info_view(device)->can_wrap) skip();
    matrices m = matrices_make(128, true);
    /* Seen by the device: a second product after the host changed one factor. Seen by the host: its result, with no copy counted. */
    multiply(&m, false);
    float before = m.out[5];
    m.a[5 * 128] += 1.0f; /* row 5 of a, column 0: changes out[r][5] by b[r][0] */
    dw_compute_report report = multiply(&m, false);
    assert_int_equal(report.copied_bytes, 0);
    assert_true(m.out[5] == before + m.b[0]);
    assert_int_equal(wrong_elements(&m, 0), 0);
    matrices_free(&m);
}

static void wrap_is_the_hosts_address_where_info_says_so(void **state) {
    (void)state;
    if (!dw_device_info_view(device)->can_wrap) skip();
    uint64_t bytes = 16 * dw_os_page_bytes();
    void *window = map_window(bytes);
    dw_buffer *buffer = NULL;
    uint64_t before = dw_device_ledger(device).wrapped;
    assert_int_equal(dw_device_wrap(device, window, bytes, true, &buffer, NULL), DW_OK);
    if (dw_device_info_view(device)->addresses_are_host) assert_ptr_equal(dw_buffer_base(buffer), window);
    assert_int_equal(dw_buffer_size(buffer), bytes);
    assert_int_equal(dw_device_ledger(device).wrapped - before, bytes);
    dw_buffer_destroy(buffer);
    assert_int_equal(dw_device_wrap(device, (uint8_t *)window + 4, bytes, true, &buffer, NULL), DW_E_INVALID);
    assert_null(buffer);
    dw_os_unmap(window, (size_t)bytes);
}

static void a_chain_of_nodes_runs_in_order(void **state) {
    (void)state;
    enum { N = 64 };
    uint64_t bytes = 8 * dw_os_page_bytes();
    uint8_t *window = map_window(bytes);
    uint64_t step = 1024;
    dw_compute_tensor tensors[5];
    for (uint32_t i = 0; i < 5; i++) tensors[i] = (dw_compute_tensor){i * step, DW_COMPUTE_F32, N, 1};
    float *x = (float *)(void *)window, *y = (float *)(void *)(window + step), *out = (float *)(void *)(window + 4 * step);
    for (int i = 0; i < N; i++) { x[i] = (float)i; y[i] = 2.0f; }
    /* t2 = x + y; t3 = t2 * y; t4 = t3 + t2; then t2 again = t4 * y */
    dw_compute_node nodes[4] = {{DW_COMPUTE_ADD, 0, 1, 2}, {DW_COMPUTE_MUL, 2, 1, 3}, {DW_COMPUTE_ADD, 3, 2, 4}, {DW_COMPUTE_MUL, 4, 1, 2}};
    for (int copy = 0; copy < 2; copy++) {
        dw_compute_request request = {.window = window, .window_bytes = bytes, .tensors = tensors, .n_tensors = 5, .nodes = nodes, .n_nodes = 4, .copy = copy != 0};
        dw_compute_report report;
        memset(window + 2 * step, 0, 3 * step);
        assert_int_equal(dw_compute_run(device, &request, &report, NULL), DW_OK);
        float *again = (float *)(void *)(window + 2 * step);
        for (int i = 0; i < N; i++) {
            assert_true(out[i] == 3.0f * ((float)i + 2.0f));
            assert_true(again[i] == 6.0f * ((float)i + 2.0f));
        }
    }
    dw_os_unmap(window, (size_t)bytes);
}

/* Between two nodes; other devices run to their end. */
static void a_computation_that_is_stopped_is_given_up_on_the_cpu(void **state) {
    enum { N = 64 };
    static const dw_compute_node nodes[] = {{DW_COMPUTE_ADD, 0, 0, 1}, {DW_COMPUTE_ADD, 1, 1, 2}};
    (void)state;
    const dw_device_info *info = dw_device_info_view(device);
    uint64_t step = dw_max_u64(info->tensor_align_bytes, 256), bytes = dw_max_u64(dw_os_page_bytes(), info->wrap_align_bytes);
    void *window = NULL;
    dw_error err = {0};
    assert_int_equal(dw_os_map_reserve((size_t)bytes, &window, &err), DW_OK);
    assert_int_equal(dw_os_map_anonymous(window, (size_t)bytes, &err), DW_OK);
    dw_compute_tensor tensors[3];
    for (uint32_t i = 0; i < 3; i++) tensors[i] = (dw_compute_tensor){.offset = i * step, .columns = N, .rows = 1};
    _Atomic bool stop = true;
    dw_compute_request request = {.window = window, .window_bytes = bytes, .tensors = tensors, .n_tensors = 3,
                                  .nodes = nodes, .n_nodes = 2, .stop = &stop};
    dw_compute_report report;
    dw_status status = dw_compute_run(device, &request, &report, &err);
    assert_int_equal(status, info->kind == DW_DEVICE_CPU ? DW_E_CANCELLED : DW_OK);
    stop = false;
    assert_int_equal(dw_compute_run(device, &request, &report, &err), DW_OK); /* the device works on */
    dw_os_unmap(window, (size_t)bytes);
}

/* A matrix of one type that repacks, written whole, times columns, beside the same matrix in plain memory. */
static void repacked_weights_give_the_same_product(void **state) {
    (void)state;
    enum { COLUMNS = 512, ROWS = 64, N = 3 };
    const char *repacks = dw_device_info_view(device)->repacks;
    if (strstr(repacks, "q4_0") == NULL) {
        printf("no repack kernel for q4_0 on this processor\n");
        skip();
    }
    static float source[ROWS * COLUMNS], x[N * COLUMNS], out[2][N * ROWS];
    static uint8_t packed[ROWS * COLUMNS];
    uint64_t random = 5;
    for (int i = 0; i < ROWS * COLUMNS; i++) source[i] = (float)next_random(&random) / 2147483648.0f - 0.5f;
    for (int i = 0; i < N * COLUMNS; i++) x[i] = (float)next_random(&random) / 2147483648.0f - 0.5f;
    size_t bytes = ggml_quantize_chunk(GGML_TYPE_Q4_0, source, packed, 0, ROWS, COLUMNS, NULL);
    for (int repack = 0; repack < 2; repack++) {
        struct ggml_context *context = ggml_init((struct ggml_init_params){.mem_size = 16 * ggml_tensor_overhead() + ggml_graph_overhead(), .no_alloc = true});
        struct ggml_tensor *w = ggml_new_tensor_2d(context, GGML_TYPE_Q4_0, COLUMNS, ROWS);
        struct ggml_tensor *b = ggml_new_tensor_2d(context, GGML_TYPE_F32, COLUMNS, N);
        struct ggml_tensor *y = ggml_mul_mat(context, w, b);
        struct ggml_cgraph *graph = ggml_new_graph(context);
        struct ggml_backend_buffer_type *type = dw_device_repacks(device, w);
        dw_buffer *weights = NULL, *plain = NULL;
        uint64_t before = dw_device_ledger(device).copied_in;
        assert_non_null(type);
        assert_null(dw_device_repacks(device, b)); /* F32 */
        if (repack) assert_int_equal(dw_device_allocate_repacked(device, type, dw_repacked_bytes(type, w), &weights, NULL), DW_OK);
        else assert_int_equal(dw_device_allocate(device, bytes, &weights, NULL), DW_OK);
        assert_int_equal(dw_device_allocate(device, sizeof x + sizeof out[0], &plain, NULL), DW_OK);
        assert_int_equal(dw_buffer_place(weights, w, 0, NULL), DW_OK);
        assert_int_equal(dw_buffer_place(plain, b, 0, NULL), DW_OK);
        assert_int_equal(dw_buffer_place(plain, y, sizeof x, NULL), DW_OK);
        assert_int_equal(dw_tensor_write(device, w, packed, 0, bytes), DW_OK);
        assert_int_equal(dw_device_ledger(device).copied_in - before, bytes);
        if (repack) assert_memory_not_equal(dw_buffer_base(weights), packed, bytes); /* in another order */
        assert_int_equal(dw_tensor_write(device, b, x, 0, sizeof x), DW_OK);
        ggml_build_forward_expand(graph, y);
        assert_int_equal(dw_device_supports(device, graph, NULL), DW_OK);
        assert_int_equal(dw_device_compute(device, graph, NULL), DW_OK);
        assert_int_equal(dw_tensor_read(device, y, out[repack], 0, sizeof out[0]), DW_OK);
        dw_buffer_destroy(weights);
        dw_buffer_destroy(plain);
        ggml_free(context);
    }
    for (int i = 0; i < N * ROWS; i++) {
        float difference = out[0][i] - out[1][i];
        assert_true(difference < 1e-3f && difference > -1e-3f); /* sums of 512 products below 0.25; the order of additions alone differs */
    }
}

static void malformed_requests_are_refused(void **state) {
    (void)state;
    uint64_t bytes = 4 * dw_os_page_bytes();
    uint8_t *window = map_window(bytes);
    const dw_compute_tensor good[3] = {{0, DW_COMPUTE_F32, 16, 16}, {1024, DW_COMPUTE_F32, 16, 16}, {2048, DW_COMPUTE_F32, 16, 16}};
    const struct { const char *what; int tensor; dw_compute_tensor with; dw_compute_node node; dw_status status; } cases[] = {
        {"past the window", 2, {bytes - 512, DW_COMPUTE_F32, 16, 16}, {1, 0, 1, 2}, DW_E_RANGE},
        {"offset that wraps around", 2, {UINT64_MAX - 1023, DW_COMPUTE_F32, 16, 16}, {1, 0, 1, 2}, DW_E_RANGE},
        {"absurd size", 0, {0, DW_COMPUTE_F32, UINT32_MAX, UINT32_MAX}, {1, 0, 1, 2}, DW_E_RANGE},
        {"no elements", 0, {0, DW_COMPUTE_F32, 0, 16}, {1, 0, 1, 2}, DW_E_INVALID},
        {"no such type", 0, {0, 7, 16, 16}, {1, 0, 1, 2}, DW_E_INVALID},
        {"misaligned", 0, {2, DW_COMPUTE_F32, 16, 16}, {1, 0, 1, 2}, DW_E_INVALID},
        {"no such tensor", 0, {0, DW_COMPUTE_F32, 16, 16}, {1, 0, 3, 2}, DW_E_RANGE},
        {"no such operation", 0, {0, DW_COMPUTE_F32, 16, 16}, {9, 0, 1, 2}, DW_E_UNSUPPORTED},
        {"shapes do not fit", 0, {0, DW_COMPUTE_F32, 8, 16}, {1, 0, 1, 2}, DW_E_INVALID},
        {"output is input", 0, {0, DW_COMPUTE_F32, 16, 16}, {1, 0, 1, 1}, DW_E_INVALID},
        {"output overlaps input", 2, {1024 + 512, DW_COMPUTE_F32, 16, 16}, {1, 0, 1, 2}, DW_E_INVALID},
        {"result as F16", 2, {2048, DW_COMPUTE_F16, 16, 16}, {1, 0, 1, 2}, DW_E_INVALID},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        dw_compute_tensor tensors[3];
        memcpy(tensors, good, sizeof tensors);
        tensors[cases[i].tensor] = cases[i].with;
        dw_compute_request request = {.window = window, .window_bytes = bytes, .tensors = tensors, .n_tensors = 3, .nodes = &cases[i].node, .n_nodes = 1};
        dw_compute_report report;
        dw_error err = {0};
        dw_status status = dw_compute_run(device, &request, &report, &err);
        if (status != cases[i].status) fail_msg("%s: %s (%s)", cases[i].what, dw_status_name(status), err.text);
        assert_true(err.text[0] != 0);
    }
    dw_os_unmap(window, (size_t)bytes);
}

static void unknown_devices_are_refused_with_those_that_exist(void **state) {
    (void)state;
    const char *names[] = {"", "tpu", "cpu9", "vulkan99999999999999999999", "9", "cpu0x"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        dw_device *none = NULL;
        dw_error err = {0};
        assert_int_equal(dw_device_open(names[i], NULL, &none, &err), DW_E_NOT_FOUND);
        assert_null(none);
        assert_non_null(strstr(err.text, "cpu"));
    }
}

static void the_list_begins_with_the_cpu(void **state) {
    (void)state;
    dw_device_info infos[8];
    assert_true(dw_device_list(infos, 8) >= 1);
    assert_string_equal(infos[0].name, "cpu");
    assert_true(infos[0].can_wrap && infos[0].addresses_are_host);
}

int main(int argc, char **argv) {
    if (argc > 1) device_name = argv[1];
    dw_error err = {0};
    if (dw_device_open(device_name, &(dw_device_options){.threads = 2}, &device, &err) != DW_OK) {
        printf("skipped: %s\n", err.text);
        return 77;
    }
    const dw_device_info *info = dw_device_info_view(device);
    printf("%s: %s, wraps %d, tensors up to %llu bytes\n", info->name, info->description, info->can_wrap, (unsigned long long)info->tensor_bytes_max);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(product_128_is_exact),
        cmocka_unit_test(product_512_is_exact),
        cmocka_unit_test(product_2048_is_exact),
        cmocka_unit_test(product_of_fractions_is_near),
        cmocka_unit_test(wrap_shares_pages_in_both_directions),
        cmocka_unit_test(wrap_is_the_hosts_address_where_info_says_so),
        cmocka_unit_test(a_chain_of_nodes_runs_in_order),
        cmocka_unit_test(a_computation_that_is_stopped_is_given_up_on_the_cpu),
        cmocka_unit_test(repacked_weights_give_the_same_product),
        cmocka_unit_test(malformed_requests_are_refused),
        cmocka_unit_test(unknown_devices_are_refused_with_those_that_exist),
        cmocka_unit_test(the_list_begins_with_the_cpu),
    };
    int failed = cmocka_run_group_tests_name(device_name, tests, NULL, NULL);
    dw_device_close(device);
    return failed;
}
