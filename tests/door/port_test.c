/* port_test.c: the books of outstanding operations (port.h). The port checks what must hold after each change in builds
 * with faults; here are the changes, and spans against a simple search. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "door/port.h"

static dw_port *make_port(void) {
    dw_port *port = NULL;
    dw_error err;
    assert_int_equal(dw_port_create(&port, &err), DW_OK);
    return port;
}

static dw_operation *add(dw_port *port, uint64_t user_data) {
    dw_operation *op = dw_port_add(port, &(dw_request){.op = DW_OP_SLEEP, .user_data = user_data});
    assert_non_null(op);
    return op;
}

static dw_operation *oldest(dw_port *port) {
    dw_park_lock(port->park);
    dw_operation *op = dw_port_oldest_done(port);
    dw_park_unlock(port->park);
    return op;
}

static void completions_come_in_the_order_in_which_operations_were_done(void **state) {
    (void)state;
    dw_port *port = make_port();
    dw_operation *ops[4];
    for (uint64_t i = 0; i < 4; i++) ops[i] = add(port, i);
    assert_null(oldest(port));
    static const int order[4] = {2, 0, 3, 1};
    for (int i = 0; i < 4; i++) dw_port_done(port, ops[order[i]]);
    for (int i = 0; i < 4; i++) {
        assert_ptr_equal(oldest(port), ops[order[i]]);
        dw_port_remove(port, ops[order[i]]);
    }
    assert_int_equal(port->n_operations + port->n_done, 0);
    dw_port_destroy(port);
}

static void what_is_kept_for_operations_is_bounded_and_given_back(void **state) {
    (void)state;
    dw_port *port = make_port();
    dw_operation *one = add(port, 1), *two = add(port, 2);
    assert_int_equal(dw_port_charge(port, one, DW_OUTSTANDING_BYTES_MAX - 100), DW_OK);
    assert_int_equal(dw_port_charge(port, two, 101), DW_E_LIMIT);
    assert_int_equal(dw_port_charge(port, two, UINT64_MAX), DW_E_LIMIT);
    assert_int_equal(dw_port_charge(port, two, 100), DW_OK);
    dw_port_refund(port, two, 40);
    assert_int_equal(dw_port_charge(port, one, 40), DW_OK);
    dw_port_remove(port, one);
    assert_int_equal(port->bytes, 60);
    assert_int_equal(dw_port_charge(port, two, DW_OUTSTANDING_BYTES_MAX - 60), DW_OK);
    dw_port_remove(port, two);
    assert_int_equal(port->bytes, 0);
    dw_port_destroy(port);
}

static dw_operation *lend(dw_port *port, const dw_lent_span *spans, uint32_t n) {
    dw_operation *op = add(port, 0);
    op->spans = calloc(n, sizeof *spans);
    assert_non_null(op->spans);
    for (uint32_t i = 0; i < n; i++) op->spans[i] = spans[i];
    op->n_spans = n;
    dw_port_lend(port, op);
    return op;
}

static void a_span_is_lent_until_it_is_taken_back(void **state) {
    (void)state;
    dw_port *port = make_port();
    dw_operation *one = lend(port, (dw_lent_span[]){{100, 200}, {300, 400}}, 2),
                 *two = lend(port, (dw_lent_span[]){{200, 210}}, 1);
    assert_int_equal(port->n_windows, 2);
    assert_true(dw_port_is_lent(port, 199, 200) && dw_port_is_lent(port, 200, 201) && dw_port_is_lent(port, 0, 1000));
    assert_false(dw_port_is_lent(port, 210, 300) || dw_port_is_lent(port, 0, 100) || dw_port_is_lent(port, 400, 500));
    assert_false(dw_port_is_lent(port, 150, 150)); /* no byte, no matter where */
    dw_port_done(port, one);
    assert_int_equal(port->n_windows, 1);
    assert_true(dw_port_is_lent(port, 100, 101)); /* how fast it was done says nothing */
    dw_port_take_back(port, one);
    assert_false(dw_port_is_lent(port, 100, 200));
    assert_true(dw_port_is_lent(port, 150, 205));
    dw_port_remove(port, two); /* before it is done: what cannot start */
    assert_int_equal(port->n_windows + port->n_lent, 0);
    dw_port_remove(port, one);
    dw_port_destroy(port);
}

static void spans_are_found_as_a_simple_search_finds_them(void **state) {
    enum { BYTES = 200, ROUNDS = 300 };
    (void)state;
    uint32_t random = 1;
    for (int round = 0; round < ROUNDS; round++) {
        dw_lent_span spans[BYTES];
        bool lent[BYTES + 1] = {false};
        uint32_t n = 0;
        for (uint32_t at = 0; at < BYTES;) {
            random = random * 1664525u + 1013904223u;
            uint32_t gap = random >> 28, size = 1 + (random >> 20 & 15);
            if (at + gap + size > BYTES) break;
            spans[n++] = (dw_lent_span){at + gap, at + gap + size};
            for (uint32_t i = 0; i < size; i++) lent[at + gap + i] = true;
            at += gap + size;
        }
        const dw_operation op = {.spans = spans, .n_spans = n};
        for (uint32_t first = 0; first <= BYTES; first += 1 + first % 3) {
            bool any = false;
            for (uint32_t end = first; end <= BYTES; end++) {
                if (dw_operation_spans_overlap(&op, first, end) != any)
                    fail_msg("round %d: %u to %u", round, first, end);
                any = any || lent[end];
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(completions_come_in_the_order_in_which_operations_were_done),
        cmocka_unit_test(what_is_kept_for_operations_is_bounded_and_given_back),
        cmocka_unit_test(a_span_is_lent_until_it_is_taken_back),
        cmocka_unit_test(spans_are_found_as_a_simple_search_finds_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
