/* memory.h: memory of this process, for both sides of bench/share. */
#ifndef DW_BENCH_MEMORY_H
#define DW_BENCH_MEMORY_H

/* Memory that is this process's and no file's: private pages and memory objects, each page once however often it is mapped.
 * 0 where the system does not say (Linux does, from 5.10 on). */
double bench_memory_bytes(void);

#endif
