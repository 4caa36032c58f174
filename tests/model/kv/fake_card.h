/* fake_card.h: a driver of a graphics card (device/cuda_driver.h) over the host's memory: chunks are memory objects, and
 * maps of them are the system's. What is fresh is not zero. Calls are counted, live things too, and any call that may
 * fail can be made to. */
#ifndef DW_TESTS_FAKE_CARD_H
#define DW_TESTS_FAKE_CARD_H

#include <stdbool.h>
#include <stdint.h>

/* Stands for the system's driver from now on. */
void fake_card_insert(uint64_t granularity);
uint64_t fake_card_chunks(void); /* that exist */
uint64_t fake_card_maps(void);   /* mapped now */
uint64_t fake_card_left(void);   /* all that somebody still has: chunks, maps, reservations, registrations, contexts */
/* The k-th call from now on that may fail does, for want of memory. 0: none. */
void fake_card_fail(uint64_t k);
bool fake_card_failed(void);

/* Host memory: ranges that are registered now, and how often that was done. */
uint64_t fake_card_registered(void);
uint64_t fake_card_registrations(void);

#endif
