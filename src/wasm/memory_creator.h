/* memory_creator.h: gives Wasmtime our regions as linear memories (I1).
 *
 * Wasmtime asks for a memory while it instantiates a module, and says nothing about for whom. So whoever instantiates
 * offers one before, on the same thread. The region is complete by then (image mapped); Wasmtime only learns its
 * address and size, and asks for growth. It never owns it: dw_instance does.
 *
 * The heap in which Wasmtime keeps exceptions is asked for in the same way: before the memory, for a program that can
 * make exceptions, and grown while they are made. What tells it from a memory is its type: it has no maximum, and every
 * prepared memory has one (prepare.h). It gets a region of its own, which ends with the store. No exception outlives a
 * turn: tables and globals that could hold one are refused. So the heap is no part of an image.
 * Threads: an offer is seen by its own thread only. */
#ifndef DW_WASM_MEMORY_CREATOR_H
#define DW_WASM_MEMORY_CREATOR_H

#include <stdbool.h>
#include <wasmtime.h>
#include "wasm/guest_memory.h"

void dw_memory_creator_install(wasm_config_t *config);
/* The next memory that is made on this thread is `memory`, whose address must stay the same as long as it lives. */
void dw_memory_creator_offer(dw_guest_memory *memory);
/* Ends the offer; true when it was taken. */
bool dw_memory_creator_withdraw(void);
/* Whether a heap for exceptions on this thread could not grow since this was asked last. */
bool dw_memory_creator_heap_was_full(void);

#endif
