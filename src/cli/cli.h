/* cli.h: what the verbs of `driftwood VERB` share: options, output, errors, finding models and programs, turns.
 *
 *   verb   one file, verb_<name>.c, with one dw_verb: its usage, its options, its run function
 *   hint   what the user can do about an error; printed under it
 *
 * Rules
 * 1. A verb returns a status with the detail in err; main.c alone prints errors and chooses the exit code.
 * 2. Results go to standard output; errors, progress and logs to standard error.
 * 3. With --json standard output gets exactly one object, on one line, at the end: {"error": {...}} when the verb
 *    failed. dw_cli_say and its kind print nothing then.
 * 4. Colour only on a terminal, and never with NO_COLOR.
 * Threads: one.
 */
#ifndef DW_CLI_CLI_H
#define DW_CLI_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "actor/actor.h"
#include "base/base.h"
#include "node/node.h"
#include "os/os.h"

/* Exit codes. A WASI command that `run` started passes its own through. */
enum {
    DW_EXIT_OK = 0,
    DW_EXIT_REFUSED = 1,
    DW_EXIT_USAGE = 2,
    DW_EXIT_FAILED = 3,
    DW_EXIT_CORRUPT = 4,
    DW_EXIT_GUEST = 5,
    DW_EXIT_SIGNAL = 6
};
enum { DW_PATH_BYTES = 4096 };

typedef struct dw_cli {
    bool json;
    bool colour;
    bool usage_error;    /* the status that is being returned means: the command line was wrong */
    int exit_code;       /* when >= 0: instead of the one that follows from the status */
    char hint[512];      /* "" = none */
    json_t *so_far;      /* with --json, what a verb had to tell before it failed: turns; owned */
} dw_cli;

/* --- options and verbs (options.c) ----------------------------------------------------------------------------- */

typedef enum dw_option_kind { DW_OPTION_FLAG, DW_OPTION_TEXT, DW_OPTION_NUMBER } dw_option_kind;

typedef struct dw_option {
    const char *name;    /* without the dashes; NULL ends a table */
    dw_option_kind kind;
    const char *value;   /* what stands for the value in --help: "PATH" */
    const char *text;    /* for --help */
} dw_option;

/* Options that several verbs have; every verb has --json and --help by itself. */
#define DW_OPTION_MODEL \
    {"model", DW_OPTION_TEXT, "PATH|NAME", \
     "a GGUF file, or the name of one in the cache folder's models/; default $DRIFTWOOD_MODEL, else the first there"}
#define DW_OPTION_DEVICE \
    {"device", DW_OPTION_TEXT, "NAME", \
     "where models and tensors are computed: cpu (default), vulkan, ...; `driftwood doctor` lists them"}
#define DW_OPTION_KV_BUDGET {"kv-budget", DW_OPTION_TEXT, "SIZE", "memory for KV rows, as 512M or 4G; default no bound"}
#define DW_OPTION_THREADS {"threads", DW_OPTION_NUMBER, "N", "threads of the CPU device; default all"}
#define DW_OPTION_REPACK \
    {"repack", DW_OPTION_FLAG, NULL, \
     "copy weights into the layout this processor multiplies fastest, where it has one: faster, for memory as large " \
     "as those weights"}
#define DW_OPTION_KV \
    {"kv", DW_OPTION_TEXT, "f16|bf16|q8_0", \
     "type of the KV rows: f16 (default), bf16, or q8_0 in half the memory; a thaw takes the checkpoint's"}
#define DW_OPTION_AT \
    {"at", DW_OPTION_NUMBER, "NS", \
     "the time the program sees for the first message, nanoseconds since 1970, each next one a second later (an " \
     "actor's time never goes back); default now"}
#define DW_OPTION_PROGRAM \
    {"program", DW_OPTION_TEXT, "PATH|NAME", \
     "the program, where neither the checkpoint holds it nor this machine has run it"}
#define DW_OPTION_NO_PROGRAM \
    {"no-program", DW_OPTION_FLAG, NULL, \
     "leave the program out of the file; it is found by its hash where it was run before"}
#define DW_OPTION_FORCE {"force", DW_OPTION_FLAG, NULL, "replace the file if it is there already"}
#define DW_OPTION_MEMORY \
    {"memory", DW_OPTION_TEXT, "SIZE", \
     "the most linear memory that the program may have, as 64M; default 1G, at most 4G"}
#define DW_OPTION_TURN_LIMIT \
    {"turn-limit", DW_OPTION_NUMBER, "SECONDS", \
     "a turn that takes longer is ended and leaves nothing behind; default 600, 0 = none"}
#define DW_OPTION_COMPILE_LIMIT \
    {"compile-limit", DW_OPTION_NUMBER, "SECONDS", \
     "a program that takes longer to compile is given up; default 120, 0 = none"}
/* How a verb that has an actor live opens model, device and program, in the order of --help. */
#define DW_OPTIONS_OF_RUNTIME \
    DW_OPTION_MODEL, DW_OPTION_DEVICE, DW_OPTION_THREADS, DW_OPTION_REPACK, DW_OPTION_KV_BUDGET, DW_OPTION_MEMORY, \
    DW_OPTION_COMPILE_LIMIT, DW_OPTION_KV
#define DW_OPTION_IN {"in", DW_OPTION_TEXT, "DIR", "the node's folder"}
#define DW_OPTION_WAIT \
    {"wait", DW_OPTION_NUMBER, "SECONDS", "how long to wait while another driftwood has the node; default 60"}
#define DW_OPTION_KEY \
    {"key", DW_OPTION_TEXT, "KEY", \
     "the message's own name: sent again with it, it is the same message, handled once and answered alike"}
#define DW_OPTION_END {NULL, DW_OPTION_FLAG, NULL, NULL}

typedef struct dw_args dw_args;

typedef struct dw_verb {
    const char *name;
    const char *summary;        /* one line for `driftwood help` */
    const char *operands;       /* "FILE.drift [TEXT]"; "" = none */
    int operands_min, operands_max; /* max -1 = any number */
    const char *text;           /* paragraphs for --help */
    const dw_option *options;   /* ended by DW_OPTION_END */
    dw_status (*run)(dw_cli *cli, const dw_args *args, dw_error *err);
} dw_verb;

/* Parses what follows the verb's name. `args` points into argv. Wrong input: DW_E_INVALID with cli->usage_error. */
dw_status dw_args_parse(dw_cli *cli, const dw_verb *verb, int argc, char **argv, dw_args **out,
                        dw_error *err) DW_MUST_USE;
void dw_args_free(dw_args *args);

/* Asking for an option that the verb did not declare is our own mistake and asserted. The last of several values
 * counts. */
bool dw_args_flag(const dw_args *args, const char *name);
const char *dw_args_text(const dw_args *args, const char *name);                         /* NULL = not given */
/* A size as "4096", "512M" or "4G" (K, M, G, T: powers of 1024); 0 when not given. */
dw_status dw_args_bytes(dw_cli *cli, const dw_args *args, const char *name, uint64_t *out, dw_error *err) DW_MUST_USE;
uint64_t dw_args_number(const dw_args *args, const char *name, uint64_t otherwise);
/* All values, in order, NULL-terminated; valid until the next call. */
const char *const *dw_args_texts(const dw_args *args, const char *name, size_t *count);
size_t dw_args_operands(const dw_args *args);
const char *dw_args_operand(const dw_args *args, size_t index);                          /* NULL behind the last */
const char *const *dw_args_operands_from(const dw_args *args, size_t index);             /* NULL-terminated */

/* The command line is wrong in a way that parsing could not see. */
dw_status dw_cli_usage(dw_cli *cli, dw_error *err, const char *format, ...) DW_PRINTF(3, 4);

void dw_verb_help(const dw_cli *cli, const dw_verb *verb);
extern const dw_verb *const dw_verbs[]; /* main.c; ends with NULL */

/* --- output (output.c) ----------------------------------------------------------------------------------------- */

typedef enum dw_style {
    DW_STYLE_NONE,
    DW_STYLE_BOLD,
    DW_STYLE_DIM,
    DW_STYLE_GOOD,
    DW_STYLE_BAD,
    DW_STYLE_NAME
} dw_style;

void dw_cli_say(const dw_cli *cli, const char *format, ...) DW_PRINTF(2, 3);
void dw_cli_say_styled(const dw_cli *cli, dw_style style, const char *format, ...) DW_PRINTF(3, 4);
void dw_cli_heading(const dw_cli *cli, const char *text);
/* Text of a guest or a model: bytes as they are to a file, control characters made harmless on a terminal. */
void dw_cli_say_text(const dw_cli *cli, const char *text, size_t size);
/* A line of progress on standard error, only when that is a terminal; the next one replaces it, NULL clears it. */
void dw_cli_progress(const dw_cli *cli, const char *format, ...) DW_PRINTF(2, 3);
/* Sets the hint that goes with the error being returned. */
void dw_cli_hint(dw_cli *cli, const char *format, ...) DW_PRINTF(2, 3);

/* Prints the object (and frees it): rule 3. Without --json it only frees. */
dw_status dw_cli_finish(const dw_cli *cli, json_t *object, dw_error *err) DW_MUST_USE;
/* Text from outside as a JSON string; what is not UTF-8 becomes U+FFFD. */
json_t *dw_json_text(const char *text, size_t size);
json_t *dw_json_u64(uint64_t value);
json_t *dw_json_ms(uint64_t ns); /* milliseconds as a number with three decimals */
json_t *dw_json_hash(const dw_hash *hash);

enum { DW_SIZE_TEXT_BYTES = 24 };
/* "72.4 MiB", "18 B"; returns `out`. */
const char *dw_size_text(uint64_t bytes, char out[DW_SIZE_TEXT_BYTES]);
double dw_ms(uint64_t ns);

/* --- finding things (lookup.c) --------------------------------------------------------------------------------- */

/* The model that --model, $DRIFTWOOD_MODEL or the cache folder name. DW_E_NOT_FOUND comes with a hint on how to get
 * one. */
dw_status dw_find_model(dw_cli *cli, const dw_args *args, char path[DW_PATH_BYTES], dw_error *err) DW_MUST_USE;
/* All *.gguf in the cache folder's models/, sorted; free each and the array. */
dw_status dw_list_models(char ***out, size_t *count, dw_error *err) DW_MUST_USE;
/* A path, or the name of a program that ships beside the executable ("chat"). */
dw_status dw_find_program(dw_cli *cli, const char *name, char path[DW_PATH_BYTES], dw_error *err) DW_MUST_USE;
/* The folder of the shipped programs. */
dw_status dw_programs_folder(char path[DW_PATH_BYTES], dw_error *err) DW_MUST_USE;
/* Sorted names with this ending in a folder; a folder that is not there is empty. Free each and the array. */
dw_status dw_list_folder(const char *folder, const char *ending, char ***out, size_t *count, dw_error *err) DW_MUST_USE;
void dw_list_free(char **names, size_t count);
dw_status dw_path_join(char out[DW_PATH_BYTES], const char *folder, const char *name, dw_error *err) DW_MUST_USE;

typedef enum dw_model_need { DW_MODEL_NONE, DW_MODEL_IF_THERE, DW_MODEL_NEEDED } dw_model_need;
/* A runtime as --device, --threads, --repack and --model say. IF_THERE: no model is no error; --model none = none. */
dw_status dw_open_runtime(dw_cli *cli, const dw_args *args, dw_model_need need, dw_runtime **out,
                          dw_error *err) DW_MUST_USE;
/* What a checkpoint needs: a model when it holds sessions. It is ready to use then: tokenizer loaded, fingerprint
 * known. */
dw_status dw_open_runtime_for(dw_cli *cli, const dw_args *args, const char *checkpoint, dw_runtime **out,
                              dw_error *err) DW_MUST_USE;
/* The same of a state, whose tokens are not looked at. */
dw_status dw_open_runtime_for_state(dw_cli *cli, const dw_args *args, const dw_checkpoint_state *state,
                                    dw_runtime **out, dw_error *err) DW_MUST_USE;
/* An actor's name from a file's: "a b/c.drift" -> "c". */
void dw_name_from_path(const char *path, char out[DW_ACTOR_NAME_BYTES_MAX + 1]);

/* --- actors and files (actors.c) ------------------------------------------------------------------------------- */

/* A runtime with what the checkpoint needs, and the actor, live. `options` may be NULL; its program is the one that
 * --program names. *runtime and *actor are the caller's, also when it failed. */
dw_status dw_wake_actor(dw_cli *cli, const dw_args *args, const char *file, const dw_thaw_options *options,
                        dw_runtime **runtime, dw_actor **actor, dw_thaw_report *report, dw_error *err) DW_MUST_USE;

/* The right to write a file, from before the work whose result goes there until it is there. */
typedef struct dw_claim {
    char path[DW_PATH_BYTES];  /* what the file's name leads to: absolute, without links */
    bool is_known;             /* what is there is a checkpoint of this identity, and may be replaced while it is */
    dw_hash identity;
    dw_os_file lock;
} dw_claim;

/* For a file that is to be made. One that is there is DW_E_EXISTS without --force; a folder or a device is refused, and
 * so is a place where no file can be made. Waits for another driftwood that has it, at most a minute (DW_E_BUSY). */
dw_status dw_claim_new(dw_cli *cli, const dw_args *args, const char *file, dw_claim *claim, dw_error *err) DW_MUST_USE;
/* For an actor's own file, before it is thawed. */
dw_status dw_claim_own(dw_cli *cli, const char *file, dw_claim *claim, dw_error *err) DW_MUST_USE;
void dw_claim_release(dw_claim *claim); /* also of one that failed */
/* Freezes the actor into the claimed file, as --no-program says; as often as wanted. DW_E_STATE when the file is no
 * longer what it was. */
dw_status dw_keep_actor(const dw_args *args, dw_actor *actor, dw_claim *claim, dw_checkpoint_report *report,
                        dw_error *err) DW_MUST_USE;

/* --- turns (turns.c) ------------------------------------------------------------------------------------------- */

/* Watches the turns of one actor: streams what it emits, remembers when the first text came, stops it at Ctrl-C. Begins
 * as dw_watch_of or zeros; dw_watch_deinit ends it, after its actor. */
typedef struct dw_watch {
    const dw_cli *cli;
    dw_actor *actor;
    bool stream;              /* print emitted text as it comes */
    const char *label;        /* printed before the first text of a turn; NULL = none */
    bool trim;                /* prose: leave out the space that a model's answer begins with */
    uint64_t emitted_bytes;   /* of the last turn */
    uint64_t first_text_ns;   /* since the start of the last turn; 0 = none came */
    uint64_t started_ns;
    char last_byte;
    dw_writer emitted;        /* the text itself, as far as there is memory: to see whether a reply repeats it */
    char said[8][160];        /* the program's last lines that were not shown, for when it fails; a ring */
    size_t n_said;
    char trouble[240];        /* its last line about trouble in this turn; "" = none */
    uint64_t turn_limit_ns;   /* 0 = none */
    bool ended_by_user;       /* a second Ctrl-C in one turn */
    struct dw_interrupter *interrupter;
} dw_watch;

/* As --turn-limit says. `watch` stays where it is while the actor lives; dw_watch_deinit. */
dw_watch dw_watch_of(const dw_cli *cli, const dw_args *args);
dw_observer dw_watch_observer(dw_watch *watch);
/* From now on Ctrl-C stops the answer instead of the process. */
dw_status dw_watch_interrupts(dw_watch *watch, dw_error *err) DW_MUST_USE;
void dw_watch_deinit(dw_watch *watch);

/* What a verb has open to let one actor live: closed together, in the right order. */
typedef struct dw_opened {
    dw_runtime *runtime;
    dw_program *program;      /* that was loaded by name; NULL where the actor came from a file */
    dw_claim claim;           /* on the file that the actor is written to */
    dw_watch watch;           /* of watch.actor, which is the verb's */
    dw_observer observer;     /* the watch's, for the actor's options */
} dw_opened;

/* In place: the observer points into it. */
void dw_opened_init(dw_opened *opened, const dw_cli *cli, const dw_args *args);
/* Loads a program by its path or name. Says on standard error what its author should know of how it was linked. */
dw_status dw_load_program(dw_cli *cli, dw_runtime *runtime, const char *name, dw_program **out,
                          dw_error *err) DW_MUST_USE;
/* The same, after opening the runtime. */
dw_status dw_open_program(dw_opened *opened, dw_cli *cli, const dw_args *args, const char *program, dw_model_need need,
                          dw_error *err) DW_MUST_USE;
void dw_opened_close(dw_opened *opened);

/* Sends one message and handles it; realtime_ns 0 = now. The reply in `result` is the caller's, freed with
 * dw_turn_free. */
typedef struct dw_message { const char *text; size_t size; } dw_message; /* any bytes */
dw_status dw_take_turn(dw_watch *watch, dw_message message, uint64_t realtime_ns, dw_turn_result *result,
                       dw_error *err) DW_MUST_USE;
void dw_turn_free(dw_turn_result *result);
/* The same for several messages (a second apart when realtime_ns is given), printing replies, collecting them in
 * `turns` (may be NULL). */
dw_status dw_take_turns(dw_watch *watch, const char *const *messages, size_t count, uint64_t realtime_ns, json_t *turns,
                        dw_error *err) DW_MUST_USE;
json_t *dw_json_turn(const dw_watch *watch, dw_message message, const dw_turn_result *result);
/* Prints the reply unless what was streamed is the same text; ends the line. */
void dw_say_reply(const dw_watch *watch, const dw_turn_result *result);

json_t *dw_json_digest(const dw_actor_digest *digest);
json_t *dw_json_kv(const dw_session_pool_use *use);
json_t *dw_json_use(const dw_actor_use *use);
json_t *dw_json_freeze(const char *path, const dw_checkpoint_report *report);
json_t *dw_json_thaw(const dw_thaw_report *report);
void dw_say_freeze(const dw_cli *cli, const char *path, const dw_checkpoint_report *report);
void dw_say_thaw(const dw_cli *cli, const dw_thaw_report *report);
void dw_say_digest(const dw_cli *cli, const dw_actor_digest *digest);

typedef enum dw_line { DW_LINE_TEXT, DW_LINE_END, DW_LINE_INTERRUPTED } dw_line;
/* One line of standard input without its end, malloc'ed, with a NUL behind it; NULs in it stay. One that is longer than
 * a message may be is read to its end and refused (DW_E_LIMIT): the next line can be read. */
dw_status dw_read_line(dw_line *kind, char **out, size_t *size, dw_error *err) DW_MUST_USE;

/* --- nodes (nodes.c) ------------------------------------------------------------------------------------------- */

/* A node in the process of a verb, and where its actors live. */
typedef struct dw_local_node { dw_node *node; dw_runtime *runtime; } dw_local_node;

/* The node of --in, which must be given. Waits for another driftwood that has it, as long as --wait says (DW_E_BUSY).
 * `make`: a folder that is not there becomes one; else it is DW_E_NOT_FOUND. */
dw_status dw_local_node_open(dw_cli *cli, const dw_args *args, bool make, dw_local_node *out,
                             dw_error *err) DW_MUST_USE;
/* A runtime with what a new actor may want, or, where `name` is not NULL, with what this actor needs. */
dw_status dw_local_node_live(dw_cli *cli, const dw_args *args, const char *name, dw_local_node *of,
                             dw_error *err) DW_MUST_USE;
/* Passes `status` on, or says why closing failed. */
dw_status dw_local_node_close(dw_local_node *of, dw_status status, dw_error *err) DW_MUST_USE;
/* A message as --key and --at say; its text is borrowed. */
dw_node_message dw_message_of(const dw_args *args, const char *text);
/* When a turn that begins now has to be over: --turn-limit. */
uint64_t dw_turn_deadline(const dw_watch *watch);
/* `ask NAME MESSAGE --in` and `inspect NAME --in`. */
dw_status dw_ask_node(dw_cli *cli, const dw_args *args, dw_error *err) DW_MUST_USE;
dw_status dw_inspect_node(dw_cli *cli, const dw_args *args, dw_error *err) DW_MUST_USE;

#endif
