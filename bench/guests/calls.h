/* calls.h: host calls that one call of `yields` makes. Shared by guest and host. */
#ifndef DW_BENCH_CALLS_H
#define DW_BENCH_CALLS_H

enum { CALLS_PER_YIELDS = 20000 };

#endif
