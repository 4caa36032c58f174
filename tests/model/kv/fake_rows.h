/* fake_rows.h: KV rows without maps (model/kv/rows.h): memory is a table of counted granules, as in the memory of a
 * graphics card, with any size of granule and any order of rows. The host has no address of it. Granules that are
 * copied are counted, and any step can be made to fail. */
#ifndef DW_TESTS_FAKE_ROWS_H
#define DW_TESTS_FAKE_ROWS_H

#include "model/kv/rows.h"

dw_status fake_rows_create(const dw_kv_geometry *geometry, uint64_t granule_bytes, uint32_t areas_per_run,
                           dw_rows **out);
uint64_t fake_rows_copied(const dw_rows *rows); /* granules, so far */
uint64_t fake_rows_held(const dw_rows *rows);   /* granules that exist */
/* The k-th step from now on fails with that status: making memory, and each run that is mapped, copied or
 * reserved. 0: none. */
void fake_rows_fail(dw_rows *rows, uint64_t k, dw_status status);
bool fake_rows_failed(const dw_rows *rows); /* whether it came to that */

#endif
