/* traps.h: lets guests trap inside cmocka tests. */
#ifndef DW_TESTS_SUPPORT_TRAPS_H
#define DW_TESTS_SUPPORT_TRAPS_H

/* To be called inside each test that runs guests: cmocka puts its own handlers in the place of Wasmtime's at the beginning of every test, and a
 * guest's trap would count as a crash of the test. Makes an engine of its own the first time. */
void test_handle_traps(void);

#endif
