/* code_walk.c: see code_walk.h. Opcode numbers are those of the specification's index of instructions. */
#include "wasm/code_walk.h"

#include <stddef.h>

/* What follows an opcode. */
typedef enum immediate {
    IMM_UNKNOWN = 0,
    IMM_NONE,
    IMM_BLOCK,      /* block type: signed 33 bits */
    IMM_BRANCH,     /* one label */
    IMM_CALL,       /* index of a function that is called */
    IMM_CALL_INDIRECT, /* indices of a type and of a table */
    IMM_LOCAL_SET,  /* index of a local */
    IMM_INDEX,      /* one index */
    IMM_INDEX_2,    /* two indices */
    IMM_BR_TABLE,   /* vector of labels and one more */
    IMM_THROW,      /* index of a tag */
    IMM_TRY_TABLE,  /* block type and a vector of clauses */
    IMM_TYPES,      /* vector of value types, one byte each */
    IMM_MEMORY,     /* alignment and offset */
    IMM_I32, IMM_I64, IMM_BYTES_4, IMM_BYTES_8, IMM_BYTES_16,
    IMM_HEAP_TYPE,
    IMM_LANE,       /* one byte */
    IMM_MEMORY_LANE,
    IMM_FUNCTION,   /* index of a function that is referred to */
    IMM_TABLE,      /* index of a table that is changed */
    IMM_TABLE_INIT, /* indices of a segment and of the table that is changed */
    IMM_TABLE_COPY, /* indices of the table that is changed and of the one that is read */
    IMM_DATA_DROP, IMM_ELEMENT_DROP, /* index of the segment that is dropped */
    IMM_PREFIX_FC, IMM_PREFIX_FD,
    IMM_ATOMIC, IMM_LEGACY_EXCEPTION /* known, but not allowed: refusal_of() tells why */
} immediate;

static immediate immediate_of_control(uint8_t opcode) {
    switch (opcode) {
    /* Unreachable nop else end return drop select. */
    case 0x00: case 0x01: case 0x05: case 0x0B: case 0x0F: case 0x1A: case 0x1B: return IMM_NONE;
    case 0x02: case 0x03: case 0x04: return IMM_BLOCK;               /* block loop if */
    case 0x06: case 0x07: case 0x09: case 0x18: case 0x19:           /* try catch rethrow delegate catch_all */
        return IMM_LEGACY_EXCEPTION;
    case 0x08: return IMM_THROW;                                     /* throw */
    case 0x0A: return IMM_NONE;                                      /* throw_ref */
    case 0x1F: return IMM_TRY_TABLE;
    case 0x0C: case 0x0D: return IMM_BRANCH;                         /* br br_if */
    case 0x10: case 0x12: return IMM_CALL;                           /* call return_call */
    case 0x0E: return IMM_BR_TABLE;
    case 0x11: case 0x13: return IMM_CALL_INDIRECT;                  /* call_indirect return_call_indirect */
    case 0x1C: return IMM_TYPES;                                     /* select t */
    default: return IMM_UNKNOWN;
    }
}

static immediate immediate_of(uint8_t opcode) {
    if (opcode < 0x20) return immediate_of_control(opcode);
    if (opcode == 0x21 || opcode == 0x22) return IMM_LOCAL_SET; /* local.set local.tee */
    if (opcode <= 0x25) return IMM_INDEX;                    /* local.get .. global.set, table.get */
    if (opcode == 0x26) return IMM_TABLE;                    /* table.set */
    if (opcode >= 0x28 && opcode <= 0x3E) return IMM_MEMORY; /* loads and stores */
    if (opcode == 0x3F || opcode == 0x40) return IMM_INDEX;  /* memory.size memory.grow */
    if (opcode == 0x41) return IMM_I32;
    if (opcode == 0x42) return IMM_I64;
    if (opcode == 0x43) return IMM_BYTES_4;
    if (opcode == 0x44) return IMM_BYTES_8;
    if (opcode >= 0x45 && opcode <= 0xC4) return IMM_NONE;   /* numeric */
    if (opcode == 0xD0) return IMM_HEAP_TYPE;                /* ref.null */
    if (opcode == 0xD1) return IMM_NONE;                     /* ref.is_null */
    if (opcode == 0xD2) return IMM_FUNCTION;                 /* ref.func */
    if (opcode == 0xFC) return IMM_PREFIX_FC;
    if (opcode == 0xFD) return IMM_PREFIX_FD;
    if (opcode == 0xFE) return IMM_ATOMIC;
    return IMM_UNKNOWN;
}

/* 0xFC: saturating truncation, bulk memory, tables. */
static immediate immediate_of_fc(uint32_t opcode) {
    if (opcode <= 7) return IMM_NONE;
    switch (opcode) {
    case 8: case 10: return IMM_INDEX_2;  /* memory.init memory.copy */
    case 11: case 16: return IMM_INDEX;   /* memory.fill table.size */
    case 12: return IMM_TABLE_INIT;
    case 14: return IMM_TABLE_COPY;
    case 15: case 17: return IMM_TABLE;   /* table.grow table.fill */
    case 9: return IMM_DATA_DROP;
    case 13: return IMM_ELEMENT_DROP;
    default: return IMM_UNKNOWN;
    }
}

/* 0xFD: SIMD, with relaxed SIMD from 0x100. Numbers without an instruction are caught by Wasmtime's validation. */
static immediate immediate_of_fd(uint32_t opcode) {
    if (opcode <= 11 || opcode == 92 || opcode == 93) return IMM_MEMORY;
    if (opcode == 12 || opcode == 13) return IMM_BYTES_16; /* v128.const i8x16.shuffle */
    if (opcode >= 21 && opcode <= 34) return IMM_LANE;
    if (opcode >= 84 && opcode <= 91) return IMM_MEMORY_LANE;
    return opcode <= 0x113 ? IMM_NONE : IMM_UNKNOWN;
}

void dw_code_note_function(const dw_code_notes *notes, uint32_t function) {
    if (function < notes->n_functions) notes->named[function] = true;
}

static void note_table(const dw_code_notes *notes, uint32_t table) {
    if (table < notes->n_tables) notes->changed[table] = true;
}

static void note_data_drop(const dw_code_notes *notes, uint32_t segment) {
    if (segment < notes->n_data) notes->dropped_data[segment] = true;
}

static void note_element_drop(const dw_code_notes *notes, uint32_t segment) {
    if (segment < notes->n_elements) notes->dropped_elements[segment] = true;
}

static void skip_memory(dw_reader *reader) {
    uint32_t alignment = dw_read_leb_u32(reader);
    if (alignment & 0x40u) (void)dw_read_leb_u32(reader); /* with this bit a memory index follows (multi-memory) */
    (void)dw_read_leb_u32(reader);
}

/* A vector of indices and one more index. The count is not trusted: each round reads, and a failed reader ends the
 * loop. */
static void skip_br_table(dw_reader *reader, const dw_code_notes *notes) {
    uint64_t n = (uint64_t)dw_read_leb_u32(reader) + 1;
    for (uint64_t i = 0; i < n && reader->status == DW_OK; i++) {
        uint32_t label = dw_read_leb_u32(reader);
        if (notes->weigher) dw_code_weigh_branch(notes->weigher, label);
    }
}

/* What only weighing asks about. */
static void weigh_index(const dw_code_notes *notes, immediate kind, uint32_t index) {
    if (!notes->weigher) return;
    switch (kind) {
    case IMM_BRANCH: dw_code_weigh_branch(notes->weigher, index); break;
    case IMM_CALL: dw_code_weigh_call(notes->weigher, index); break;
    case IMM_CALL_INDIRECT: dw_code_weigh_indirect_call(notes->weigher, index); break;
    case IMM_THROW: dw_code_weigh_throw(notes->weigher); break;
    case IMM_LOCAL_SET: dw_code_weigh_set(notes->weigher); break;
    default: break;
    }
}

/* A type in one byte, or the index of a function type. A reference type of two parts is refused. */
static int64_t read_block_type(dw_reader *reader) {
    int64_t type = dw_read_leb_s64(reader);
    if (reader->status == DW_OK && (type == 0x63 - 0x80 || type == 0x64 - 0x80)) reader->status = DW_E_UNSUPPORTED;
    return type;
}

/* Likewise. The count is not trusted: each round reads. */
static void skip_types(dw_reader *reader) {
    uint32_t n = dw_read_leb_u32(reader);
    for (uint32_t i = 0; i < n && reader->status == DW_OK; i++) (void)read_block_type(reader);
}

static void read_immediate(dw_reader *reader, immediate kind, const dw_code_notes *notes) {
    switch (kind) {
    case IMM_BRANCH: case IMM_CALL: case IMM_LOCAL_SET: case IMM_THROW:
        weigh_index(notes, kind, dw_read_leb_u32(reader));
        break;
    case IMM_CALL_INDIRECT:
        weigh_index(notes, kind, dw_read_leb_u32(reader));
        (void)dw_read_leb_u32(reader);
        break;
    case IMM_BLOCK: case IMM_TRY_TABLE: break; /* weigh_structure */
    case IMM_HEAP_TYPE: case IMM_I64: (void)dw_read_leb_s64(reader); break;
    case IMM_I32: (void)dw_read_leb_s32(reader); break;
    case IMM_INDEX_2: (void)dw_read_leb_u32(reader); /* fall through */
    case IMM_INDEX: (void)dw_read_leb_u32(reader); break;
    case IMM_BR_TABLE: skip_br_table(reader, notes); break;
    case IMM_TYPES: skip_types(reader); break;
    case IMM_MEMORY: skip_memory(reader); break;
    case IMM_MEMORY_LANE: skip_memory(reader); /* fall through */
    case IMM_LANE: (void)dw_read_u8(reader); break;
    case IMM_BYTES_4: (void)dw_read_bytes(reader, 4); break;
    case IMM_BYTES_8: (void)dw_read_bytes(reader, 8); break;
    case IMM_BYTES_16: (void)dw_read_bytes(reader, 16); break;
    case IMM_FUNCTION: dw_code_note_function(notes, dw_read_leb_u32(reader)); break;
    case IMM_TABLE_INIT: (void)dw_read_leb_u32(reader); /* fall through */
    case IMM_TABLE: note_table(notes, dw_read_leb_u32(reader)); break;
    case IMM_TABLE_COPY:
        note_table(notes, dw_read_leb_u32(reader));
        (void)dw_read_leb_u32(reader);
        break;
    case IMM_DATA_DROP: note_data_drop(notes, dw_read_leb_u32(reader)); break;
    case IMM_ELEMENT_DROP: note_element_drop(notes, dw_read_leb_u32(reader)); break;
    case IMM_NONE: case IMM_UNKNOWN: case IMM_PREFIX_FC: case IMM_PREFIX_FD: break;
    case IMM_ATOMIC: case IMM_LEGACY_EXCEPTION: break;
    }
}

/* Why an instruction that we know is not allowed. */
static const char *refusal_of(immediate kind) {
    if (kind == IMM_ATOMIC) return "an atomic instruction (threads), whose effect cannot be restored from a checkpoint";
    return "exceptions in their old form (try, catch): compile with -mllvm -wasm-use-legacy-eh=false, "
           "or convert with wasm-opt --translate-to-exnref";
}

static bool becomes_long(uint8_t prefix, uint32_t opcode) {
    if (prefix == 0xFC) return opcode >= 8; /* memory.init and what follows it */
    return prefix == 0x25 || prefix == 0x26; /* table.get table.set */
}

/* Clauses: 0 catch and 1 catch_ref name a tag and a label, 2 catch_all and 3 catch_all_ref a label, counted from
 * outside the block. That there are no others is left to Wasmtime's validation. */
static void skip_clauses(dw_reader *reader, const dw_code_notes *notes) {
    uint32_t n = dw_read_leb_u32(reader);
    for (uint32_t i = 0; i < n && reader->status == DW_OK; i++) {
        if (dw_read_u8(reader) < 2) (void)dw_read_leb_u32(reader);
        uint32_t label = dw_read_leb_u32(reader);
        if (notes->weigher) dw_code_weigh_branch(notes->weigher, label);
    }
}

/* What opens a block and what follows in it, else, end. */
static dw_status weigh_structure(dw_reader *reader, immediate kind, uint8_t opcode, const dw_code_notes *notes,
                                 dw_error *err) {
    if (kind == IMM_BLOCK || kind == IMM_TRY_TABLE) {
        dw_code_block block = kind == IMM_TRY_TABLE ? DW_CODE_TRY : opcode == 0x03 ? DW_CODE_LOOP : DW_CODE_BLOCK;
        int64_t type = read_block_type(reader);
        if (kind == IMM_TRY_TABLE) skip_clauses(reader, notes);
        return notes->weigher ? dw_code_weigh_block(notes->weigher, block, type, err) : DW_OK;
    }
    if (!notes->weigher) return DW_OK;
    if (opcode == 0x05) dw_code_weigh_else(notes->weigher);
    if (opcode == 0x0B) dw_code_weigh_end(notes->weigher);
    return DW_OK;
}

/* Steps over one instruction. */
static dw_status walk_one(dw_reader *reader, const dw_code_notes *notes, dw_error *err) {
    uint64_t at = reader->offset;
    uint8_t prefix = dw_read_u8(reader);
    uint32_t opcode = prefix;
    immediate kind = immediate_of(prefix);
    if (kind == IMM_PREFIX_FC || kind == IMM_PREFIX_FD) {
        opcode = dw_read_leb_u32(reader);
        kind = kind == IMM_PREFIX_FC ? immediate_of_fc(opcode) : immediate_of_fd(opcode);
    }
    if (reader->status != DW_OK)
        return dw_fail_at(err, reader->status, reader->offset, "the code ends inside an instruction");
    if (kind == IMM_ATOMIC || kind == IMM_LEGACY_EXCEPTION)
        return dw_fail_at(err, DW_E_UNSUPPORTED, at, "the code uses %s", refusal_of(kind));
    if (kind == IMM_UNKNOWN)
        return dw_fail_at(err, DW_E_UNSUPPORTED, at, "the code uses an unknown instruction, 0x%02x 0x%x",
                          (unsigned)prefix, (unsigned)opcode);
    dw_status status = weigh_structure(reader, kind, prefix, notes, err);
    if (status != DW_OK) return status;
    if (notes->weigher && becomes_long(prefix, opcode)) dw_code_weigh_helper(notes->weigher);
    read_immediate(reader, kind, notes);
    if (reader->status == DW_E_UNSUPPORTED)
        return dw_fail_at(err, DW_E_UNSUPPORTED, at, "the code uses typed references, which are not supported");
    if (reader->status != DW_OK)
        return dw_fail_at(err, reader->status, reader->offset, "the code ends inside an instruction");
    return DW_OK;
}

dw_status dw_code_walk(dw_reader *reader, uint64_t end, const dw_code_notes *notes, dw_error *err) {
    while (reader->offset < end) {
        dw_status status = walk_one(reader, notes, err);
        if (status != DW_OK) return status;
    }
    if (reader->offset != end)
        return dw_fail_at(err, DW_E_FORMAT, end, "an instruction reaches over the end of its function");
    return DW_OK;
}

/* --- constant expressions -------------------------------------------------------------------------------------- */

/* Deep enough for what compilers emit (2); a deeper one is refused, not guessed at. */
enum { CONSTANT_STACK_MAX = 32 };

typedef struct constant_stack { dw_constant items[CONSTANT_STACK_MAX]; uint32_t n; } constant_stack;

static bool push(constant_stack *stack, dw_constant value) {
    if (stack->n == CONSTANT_STACK_MAX) return false;
    stack->items[stack->n++] = value;
    return true;
}

static dw_constant pop(constant_stack *stack) {
    return stack->n > 0 ? stack->items[--stack->n] : (dw_constant){0};
}

/* i32.add, i32.sub, i32.mul; their 64-bit kin give something unknown. */
static bool apply(constant_stack *stack, uint8_t opcode) {
    dw_constant b = pop(stack), a = pop(stack), result = {.known = a.known && b.known && opcode < 0x70};
    if (opcode == 0x6A) result.value = a.value + b.value;
    if (opcode == 0x6B) result.value = a.value - b.value;
    if (opcode == 0x6C) result.value = a.value * b.value;
    if (!result.known) result.value = 0;
    return push(stack, result);
}

static dw_constant constant_of_global(dw_constants globals, uint32_t index) {
    return index < globals.n ? globals.items[index] : (dw_constant){0};
}

dw_status dw_constant_expression(dw_reader *reader, dw_constants globals, const dw_code_notes *notes, dw_constant *out,
                                 dw_error *err) {
    constant_stack stack = {.n = 0};
    uint64_t start = reader->offset;
    *out = (dw_constant){0};
    for (;;) {
        uint64_t at = reader->offset;
        uint8_t opcode = dw_read_u8(reader);
        bool fits = true;
        if (reader->status != DW_OK || opcode == 0x0B) break;
        switch (opcode) {
        case 0x41: fits = push(&stack, (dw_constant){.known = true, .value = (uint32_t)dw_read_leb_s32(reader)}); break;
        case 0x23: fits = push(&stack, constant_of_global(globals, dw_read_leb_u32(reader))); break;
        case 0x6A: case 0x6B: case 0x6C: case 0x7C: case 0x7D: case 0x7E: fits = apply(&stack, opcode); break;
        case 0x42: case 0x43: case 0x44: case 0xD0: case 0xD2:
            read_immediate(reader, immediate_of(opcode), notes);
            fits = push(&stack, (dw_constant){0});
            break;
        case 0xFD:
            if (dw_read_leb_u32(reader) == 12) {
                (void)dw_read_bytes(reader, 16);
                fits = push(&stack, (dw_constant){0});
                break;
            }
            /* fall through */
        default:
            return dw_fail_at(err, DW_E_UNSUPPORTED, at, "a constant expression uses the instruction 0x%02x",
                              (unsigned)opcode);
        }
        if (!fits) return dw_fail_at(err, DW_E_LIMIT, at, "a constant expression is nested too deeply");
    }
    if (reader->status != DW_OK)
        return dw_fail_at(err, reader->status, reader->offset, "a constant expression is cut short");
    if (stack.n != 1)
        return dw_fail_at(err, DW_E_FORMAT, start, "a constant expression leaves %u values instead of one",
                          (unsigned)stack.n);
    *out = stack.items[0];
    return DW_OK;
}
