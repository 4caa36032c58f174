/* check.h: checks of a module's own rules that are too slow for every build. They run after each change where
 * DW_INVARIANTS is 1: in builds with sanitizers or with fault injection, which are those that tests run in. */
#ifndef DW_BASE_CHECK_H
#define DW_BASE_CHECK_H

#include <assert.h>

#if defined(DW_SANITIZE) || defined(DW_FAULTS)
#define DW_INVARIANTS 1
#else
#define DW_INVARIANTS 0
#endif

#endif
