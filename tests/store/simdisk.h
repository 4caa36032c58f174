/* simdisk.h: a disk in memory that can lose power.
 *
 * What is written is in the cache until its file is synced, and what is named until the folder is. When power fails
 * each cached change is kept or lost by dice: writes by sectors of 512 bytes, so that they tear and come in any order;
 * names one by one, in order. What was synced stays.
 *
 * A file's sync that fails loses like that at once, and keeps the cache: the next sync of the same file succeeds and
 * writes nothing of it, which is what a kernel does. A folder's sync that fails leaves its names in the cache: they are
 * in the file system's journal, which stops when it cannot be written.
 * Threads: one. */
#ifndef DW_TESTS_STORE_SIMDISK_H
#define DW_TESTS_STORE_SIMDISK_H

#include "store/disk.h"

typedef struct sim_disk sim_disk;

sim_disk *sim_create(uint64_t seed);
void sim_destroy(sim_disk *sim);
/* For dw_store_options; as long as the disk lives. */
const dw_store_disk *sim_ops(sim_disk *sim);
/* Operations so far: what can be counted for the two below. */
uint64_t sim_operations(const sim_disk *sim);
/* Power fails before the k-th operation from now: it and all later ones fail until sim_power_cycle. 0: never. */
void sim_lose_power_at(sim_disk *sim, uint64_t k);
/* The k-th sync from now fails. 0: none. */
void sim_fail_sync_at(sim_disk *sim, uint64_t k);
/* The k-th write from now fails; what it wrote is in the cache all the same, or not, by dice. 0: none. */
void sim_fail_write_at(sim_disk *sim, uint64_t k);
/* No dice from now on: whatever is in the cache when the power fails is kept, and a write that fails arrives. */
void sim_keep_all(sim_disk *sim);
bool sim_is_off(const sim_disk *sim);
/* The power comes back: what the dice left is what there is. All files are closed. */
void sim_power_cycle(sim_disk *sim);
/* The process has ended, the machine has not: all files are closed, and the cache stays. */
void sim_process_ends(sim_disk *sim);

#endif
