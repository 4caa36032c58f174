/* limits.h: every bound of the system in one place (I7). Reaching one refuses with DW_E_LIMIT or DW_E_FULL.
 * A name ends in its unit. `_max` bounds are inclusive. Those that an operator may lower live in driftwood.toml later
 * and are checked against these, which are the hard ones. */
#ifndef DW_BASE_LIMITS_H
#define DW_BASE_LIMITS_H

#include <stdint.h>

/* Growing arrays (vec.h) */
#define DW_VEC_ITEMS_MAX (UINT32_C(1) << 31)             /* in one of them, where nothing closer bounds the list */

/* Guest memory (WebAssembly core, 32-bit memories) */
#define DW_WASM_PAGE_BYTES UINT64_C(65536)
/* Just under 4 GiB, page 65536 would be unaddressable in 32 bit lengths. */
#define DW_GUEST_MEMORY_BYTES_MAX (UINT64_C(65535) * DW_WASM_PAGE_BYTES)
#define DW_GUEST_RESERVATION_BYTES (UINT64_C(4) << 30)
#define DW_GUEST_GUARD_BYTES (UINT64_C(32) << 20)
#define DW_GUEST_EXCEPTION_BYTES_MAX (UINT64_C(16) << 20) /* exceptions of one instance at once */

/* Programs */
#define DW_PROGRAM_BYTES_MAX (UINT64_C(64) << 20)
#define DW_PROGRAM_GLOBALS_MAX 1024u
#define DW_PROGRAM_TABLES_MAX 64u
#define DW_PROGRAM_SEGMENTS_MAX 200000u
#define DW_PROGRAM_IMAGE_BYTES_MAX (UINT64_C(256) << 20)    /* pages that the data segments of one program touch */
/* Of all tables at the start; and of each that the code changes, at any time. */
#define DW_PROGRAM_TABLE_ELEMENTS_MAX 1000000u
#define DW_PROGRAM_CHANGED_TABLES_MAX 16u                /* tables that the code changes */
#define DW_COMPILE_NS UINT64_C(120000000000)             /* to compile a program, where options name no other bound */
#define DW_FUNCTION_NESTING_MAX 65536u                   /* blocks in blocks */
/* Memory to compile one function, as estimated (code_weight.h), and those that are compiled at the same time. Functions
 * above the third are counted one by one for that. */
#define DW_FUNCTION_COMPILE_BYTES_MAX (UINT64_C(4) << 30)
#define DW_COMPILE_BYTES_MAX (UINT64_C(8) << 30)
#define DW_FUNCTION_HEAVY_BYTES (UINT64_C(64) << 20)
#define DW_COMPILES_GIVEN_UP_MAX 2u                      /* that run on without anybody who waits for them */
#define DW_GUEST_STACK_BYTES (UINT64_C(512) << 10)       /* Wasm stack of one call */
/* Native stack of a thread that runs guests: must exceed DW_GUEST_STACK_BYTES by far. */
#define DW_WORKER_STACK_BYTES (UINT64_C(4) << 20)

/* Guest ABI */
#define DW_ENTER_REQUESTS_MAX 1024u                      /* in one enter() call */
#define DW_OUTSTANDING_MAX 1024u                         /* of one actor */
#define DW_OUTSTANDING_BYTES_MAX (UINT64_C(64) << 20)    /* that the host keeps for these: copies, results, text */
/* In one compute request, since nothing ends an operation early: 10,000 x 10,000 x 10,000. */
#define DW_COMPUTE_MULTIPLIES_MAX (UINT64_C(1) << 40)
#define DW_TURN_TOKENS_MAX 65536u                        /* tokens in one forward, sync or embed request */
#define DW_EMBED_TEXTS_MAX 1024u                         /* texts in one embed request */
#define DW_TEXT_BYTES_MAX (UINT64_C(4) << 20)            /* text in one tokenize/emit/reply/embed request */
/* Characters without a place to end a word (splitter.h): each takes stack. */
#define DW_TEXT_STRETCH_CHARS_MAX 131072u
#define DW_STOP_STRINGS_MAX 16u
#define DW_STOP_STRING_BYTES_MAX 256u
#define DW_TOP_K_MAX 1024u
#define DW_CANDIDATES_MAX 4096u
#define DW_LOG_LINE_BYTES_MAX 4096u

/* Actors */
#define DW_ACTOR_NAME_BYTES_MAX 200u
#define DW_MAILBOX_MESSAGES_MAX 4096u
#define DW_MESSAGE_BYTES_MAX (UINT64_C(4) << 20)
#define DW_MAILBOX_BYTES_MAX (UINT64_C(64) << 20)
#define DW_SESSIONS_PER_ACTOR_MAX 64u
/* Linear memory of an actor where the runtime's options name no other bound. */
#define DW_ACTOR_MEMORY_BYTES (UINT64_C(1) << 30)
#define DW_ACTOR_ARGUMENTS_MAX 256u
#define DW_ACTOR_ARGUMENT_BYTES_MAX 4096u

/* Runtimes */
#define DW_RUNTIME_ACTORS_MAX 65536u                     /* that live at the same time */
#define DW_RUNTIME_PROGRAMS_MAX 256u                     /* that the registry remembers; actors may use more */
#define DW_RUNTIME_MODELS_MAX 16u
#define DW_RUNTIME_DEVICES_MAX 8u
#define DW_MODEL_NAME_BYTES_MAX 127u

/* Sessions and models */
#define DW_CONTEXT_TOKENS_MAX (1u << 20)
#define DW_SESSIONS_PER_MODEL_MAX 256u
/* Of an arena, beside those of sessions: for trials at opening, embeddings, and to change a session's slot. */
#define DW_MODEL_OWN_SLOTS 5u
/* Of one slot, before they are folded into one object: each costs a map per layer and K or V, and a process may have
 * 65,530. */
#define DW_KV_EXTENTS_MAX 16u
#define DW_VOCAB_TOKENS_MAX (1u << 22)
#define DW_LAYERS_MAX 1024u
#define DW_HEADS_MAX 1024u
#define DW_EXPERTS_MAX 512u                              /* in one layer */
/* Chunks below 64 change the rounding of attention (measured). */
#define DW_PREFILL_CHUNK_TOKENS_MIN 64u
#define DW_PREFILL_CHUNK_TOKENS 256u
#define DW_BATCH_PARTS_MAX 64u                           /* sessions in one batch */
#define DW_PREFILL_TURN_TOKENS 512u                       /* after so many, those who decode have a step */
#define DW_CLASS_STREAK_MAX 15u                          /* steps that a class may go before lower ones that wait */
/* A session with no more than these to evaluate joins a batch; more is prefill. */
#define DW_BATCH_SMALL_TOKENS_MAX 16u
/* Rows that sharing a prefix has to save: what it costs is a map per layer and extent. */
#define DW_SHARE_ROWS_MIN 64u
/* Of texts that share one graph; a longer text has one of its own. */
#define DW_EMBED_STEP_TOKENS 512u
/* Texts that one decoder evaluates at a time; the last slot is for changing a session's. */
#define DW_EMBED_SLOTS_MAX (DW_MODEL_OWN_SLOTS - 1)
#define DW_EMBED_STEP_TEXTS 64u                          /* that share one graph */

/* GGUF */
#define DW_GGUF_KEYS_MAX 65536u
#define DW_GGUF_TENSORS_MAX 65536u                       /* in all parts together */
#define DW_GGUF_PARTS_MAX 1024u                          /* files of one model; names have five digits */
#define DW_GGUF_STRING_BYTES_MAX (UINT64_C(16) << 20)
#define DW_GGUF_KEY_BYTES_MAX 65535u                     /* GGUF specification */
#define DW_GGUF_TENSOR_NAME_BYTES_MAX 63u                /* GGUF specification says 64; ggml keeps a NUL in its 64 */
#define DW_GGUF_ALIGNMENT_MIN 8u
#define DW_GGUF_ALIGNMENT_MAX 65536u

/* Vocabularies */
#define DW_VOCAB_TOKEN_BYTES_MAX 4096u                   /* text of one token */
/* Bytes of rendered text per byte of token text: real ones need 1. */
#define DW_VOCAB_PIECES_GROWTH_MAX 16u

/* Checkpoints */
#define DW_DRIFT_HEADER_BYTES_MAX (UINT64_C(64) << 20)
#define DW_DRIFT_TENSORS_MAX 65536u
/* Least common multiple of a KV row and DW_DRIFT_PAGE_BYTES: what rows are padded to. */
#define DW_DRIFT_KV_UNIT_BYTES_MAX (UINT64_C(16) << 20)
/* `mailbox` and `actor` each: DW_MAILBOX_BYTES_MAX of messages and what frames them. */
#define DW_DRIFT_STATE_BYTES_MAX (UINT64_C(256) << 20)
/* Alignment of tensor data in a .drift: every page size we map with (4 KiB, 16 KiB) divides it. */
#define DW_DRIFT_PAGE_BYTES UINT64_C(16384)

/* Regions */
#define DW_REGION_EXTENTS_MAX 65536u
#define DW_REGION_WINDOWS_MAX 4096u
/* Maps of all regions together. Linux allows a process 65,530 by default, and one too many ends it in whatever malloc
 * comes next. */
#define DW_PROCESS_MAPS_MAX 57344u
/* Files and memory objects of all regions together, and what they leave of the system's limit to everybody else. */
#define DW_PROCESS_BACKINGS_MAX 65536u
#define DW_PROCESS_DESCRIPTORS_SPARE 64u

/* Committed pages */
#define DW_PAGE_MAP_PAGES_MAX (UINT64_C(1) << 20)        /* of one memory: 4 GiB with the smallest pages, 4 KiB */
/* Maps of one instance's memory when it is restored: at most, and however short maps are. Other pages are read. */
#define DW_IMAGE_MAPS_MAX 1024u
#define DW_IMAGE_MAPS_MIN 16u
/* Memory is compacted when it is in more pieces, and only where that copies few pages for each piece that goes. */
#define DW_COMPACT_PIECES_MIN 48u
#define DW_COMPACT_PAGES_PER_PIECE 64u
#define DW_PAGE_SEGMENT_PAGES 1024u                      /* whose books are one block */
#define DW_PAGE_SEGMENTS_MAX (1u << 20)                  /* of one store: 4 TiB with 4 KiB pages */
/* Free pages that keep their memory, besides as many as taken ones. */
#define DW_PAGE_STORE_SLACK_PAGES 1024u

/* What a node remembers (store.h) */
#define DW_STORE_PAGES_MAX (UINT64_C(1) << 20)           /* of one actor: 4 GiB */
/* Of one token in all layers: 80 layers of 2 KiB, K and V, take 320 KiB. */
#define DW_STORE_ROW_BYTES_MAX (1u << 20)
#define DW_STORE_ROWS_MAX (UINT64_C(1) << 32)            /* of one session */
#define DW_STORE_EXTENT_BYTES_MAX (UINT64_C(1) << 20)    /* rows under one checksum */
#define DW_STORE_SESSIONS_MAX 256u                       /* of one actor at one turn */
#define DW_STORE_STATE_BYTES_MAX (UINT64_C(256) << 20)   /* of one turn: as DW_DRIFT_STATE_BYTES_MAX */
#define DW_STORE_RECORD_BYTES_MAX (UINT64_C(8) << 20)    /* DW_MESSAGE_BYTES_MAX and what frames it */
#define DW_STORE_CHANGES_MAX 65536u                      /* of one batch */
#define DW_STORE_GROUP_BYTES_MAX (UINT64_C(64) << 20)    /* of batches that wait for one sync, beyond the first */
/* Acknowledged before they are written: levels interval and memory. */
#define DW_STORE_WAITING_BYTES_MAX (UINT64_C(64) << 20)
#define DW_STORE_RETENTION_TURNS 64u
#define DW_STORE_RETENTION_TURNS_MAX 4096u
/* More than after the last fold, and an actor is folded by dw_store_tidy. */
#define DW_STORE_FOLD_LAYERS 32u
#define DW_STORE_LAYERS_SOON 512u                        /* ... and by its own commit */
#define DW_STORE_LAYERS_MAX 65536u                       /* below one head: forks of forks refuse to go deeper */
#define DW_STORE_FILE_BYTES (UINT64_C(64) << 20)         /* a bulk file gets no more beyond that */
#define DW_STORE_FILES_OPEN_MAX 64u                      /* bulk files that are open to be read */
#define DW_STORE_LOG_BYTES (UINT64_C(4) << 20)           /* of SQLite's log, before it is moved into the index */

/* Nodes */
/* Actors of a node that are awake, where its options do not say. */
#define DW_NODE_AWAKE_MAX 256u
#define DW_NODE_TIDY_ACTORS 4u                           /* that are folded when a node is closed */
#define DW_NODE_KEY_BYTES_MAX 200u
#define DW_NODE_ANSWERS_MAX 256u                         /* that an actor remembers by their keys */
#define DW_NODE_ANSWER_BYTES_MAX (UINT64_C(16) << 20)    /* of their replies, beyond the last one */

#endif
