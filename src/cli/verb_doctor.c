/* verb_doctor.c: driftwood doctor. What this machine has, what is missing, and what to do about it. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/verbs.h"
#include "model/gguf/gguf.h"
#include "os/os.h"

typedef struct doctor {
    const dw_cli *cli;
    json_t *report;
    json_t *advice;      /* texts */
    bool broken;         /* something that everything needs is missing */
    uint64_t memory_bytes;
} doctor;

enum { DEVICES_MAX = 32 };
/* Guest memory, a small model and its scratch; below this a first chat begins to swap. */
static const uint64_t memory_wanted_bytes = UINT64_C(2) << 30;
/* Below the kernel's default, a few thousand live actors could not be held. */
static const uint64_t maps_wanted = 65530;

static void put_fact(json_t *object, const char *key, json_t *value) { (void)json_object_set_new(object, key, value); }

static void advise(doctor *d, bool broken, const char *text) {
    d->broken = d->broken || broken;
    (void)json_array_append_new(d->advice, json_string(text));
}

static void doctor_row(const doctor *d, const char *name) {
    dw_cli_say_styled(d->cli, DW_STYLE_BOLD, "  %-10s ", name);
}

/* --- the machine ----------------------------------------------------------------------------------------------- */

static const char *device_kind_text(dw_device_kind kind) {
    switch (kind) {
    case DW_DEVICE_CPU: return "cpu";
    case DW_DEVICE_GPU_UNIFIED: return "gpu, unified memory";
    case DW_DEVICE_GPU_DISCRETE: return "gpu, its own memory";
    case DW_DEVICE_GPU_SOFTWARE: return "gpu api on the cpu";
    }
    return "?";
}

static void check_devices(doctor *d) {
    static dw_device_info devices[DEVICES_MAX];
    json_t *list = json_array();
    size_t n = dw_device_list(devices, DEVICES_MAX);
    for (size_t i = 0; i < n && i < DEVICES_MAX; i++) {
        const dw_device_info *info = &devices[i];
        char size[DW_SIZE_TEXT_BYTES];
        if (info->kind == DW_DEVICE_CPU) d->memory_bytes = info->memory_bytes;
        doctor_row(d, i == 0 ? "devices" : "");
        dw_cli_say(d->cli, "%-8s %s (%s)\n", info->name, info->description, device_kind_text(info->kind));
        if (info->can_wrap && info->wrap_bytes_max > UINT64_C(1) << 48) {
            dw_cli_say(d->cli, "%13ssees our memory in place\n", "");
        } else if (info->can_wrap) {
            dw_cli_say(d->cli, "%13ssees our memory in place, up to %s at once\n", "",
                       dw_size_text(info->wrap_bytes_max, size));
        } else {
            dw_cli_say(d->cli, "%13scannot see our memory in place: %s; bytes are copied, and counted\n", "",
                       info->reason);
        }
        if (info->repacks[0]) dw_cli_say(d->cli, "%13srepacks weights of %s (--repack)\n", "", info->repacks);
        (void)json_array_append_new(
            list,
            json_pack("{s:s, s:o, s:s, s:s, s:b, s:b, s:o, s:o, s:o, s:o, s:o, s:s}", "name", info->name, "description",
                      dw_json_text(info->description, strlen(info->description)), "backend", info->backend, "kind",
                      device_kind_text(info->kind), "can_wrap", (int)info->can_wrap, "addresses_are_host",
                      (int)info->addresses_are_host, "wrap_bytes_max", dw_json_u64(info->wrap_bytes_max),
                      "wrap_align_bytes", dw_json_u64(info->wrap_align_bytes), "memory_bytes",
                      dw_json_u64(info->memory_bytes), "memory_free_bytes", dw_json_u64(info->memory_free_bytes),
                      "reason", dw_json_text(info->reason, strlen(info->reason)), "repacks", info->repacks));
    }
    if (n == 0) advise(d, true, "No compute device at all: the build is broken. Remove build/ and run ./run again.");
    put_fact(d->report, "devices", list);
}

/* A number from a file of /proc, which has no size and is read from its beginning only; 0 when it is not there. */
static uint64_t number_in_file(const char *path) {
    dw_os_file file = DW_OS_FILE_NONE;
    char text[24] = "";
    if (dw_os_open(path, DW_OS_READ, &file, NULL) != DW_OK) return 0;
    dw_status status = dw_os_read_at(file, 0, text, sizeof text - 1, NULL);
    dw_os_close(&file);
    /* Shorter than our buffer, as it should be. */
    return status == DW_OK || status == DW_E_TRUNCATED ? strtoull(text, NULL, 10) : 0;
}

static void check_machine(doctor *d) {
    char memory[DW_SIZE_TEXT_BYTES];
    uint64_t maps = number_in_file("/proc/sys/vm/max_map_count");
    bool tracked = dw_os_dirty_supported();
    doctor_row(d, "processors");
    dw_cli_say(d->cli, "%u for this process\n", dw_os_cpu_count());
    doctor_row(d, "memory");
    dw_cli_say(d->cli, "%s, pages of %zu bytes\n", d->memory_bytes ? dw_size_text(d->memory_bytes, memory) : "unknown",
               dw_os_page_bytes());
    doctor_row(d, "changes");
    dw_cli_say(d->cli, "%s\n",
               tracked ? "the kernel tells which pages were written"
                       : "found by comparing contents: this kernel does not track written pages for us");
    if (maps) {
        doctor_row(d, "maps");
        dw_cli_say(d->cli, "at most %llu per process: about %llu live actors\n", (unsigned long long)maps,
                   (unsigned long long)maps / 4);
    }
    put_fact(d->report, "cpus", json_integer((json_int_t)dw_os_cpu_count()));
    put_fact(d->report, "memory_bytes", dw_json_u64(d->memory_bytes));
    put_fact(d->report, "page_bytes", dw_json_u64(dw_os_page_bytes()));
    put_fact(d->report, "dirty_tracking", json_string(tracked ? "kernel" : "compare"));
    put_fact(d->report, "max_map_count", maps ? dw_json_u64(maps) : json_null());
    if (d->memory_bytes && d->memory_bytes < memory_wanted_bytes)
        advise(d, false, "Less than 2 GiB of memory: use a small model and a short context.");
    if (maps && maps < maps_wanted)
        advise(d, false, "vm.max_map_count is low; for many actors: sysctl -w vm.max_map_count=262144 (as root).");
}

/* --- what is installed ----------------------------------------------------------------------------------------- */

/* Is the cache folder there, or can it be made, and written to? */
static void check_cache(doctor *d) {
    char folder[DW_PATH_BYTES], probe[DW_PATH_BYTES];
    dw_error err = {0};
    dw_status status = dw_os_cache_folder(folder, sizeof folder, &err);
    if (status == DW_OK) status = dw_os_make_folders(folder, &err);
    if (status == DW_OK) status = dw_path_join(probe, folder, ".doctor", &err);
    if (status == DW_OK) status = dw_os_write_file(probe, "", 0, &err);
    if (status == DW_OK) status = dw_os_remove(probe, &err);
    doctor_row(d, "cache");
    dw_cli_say(d->cli, "%s\n", status == DW_OK ? folder : err.text);
    put_fact(d->report, "cache_folder", status == DW_OK ? dw_json_text(folder, strlen(folder)) : json_null());
    if (status != DW_OK)
        advise(d, true, "The cache folder cannot be written: set DRIFTWOOD_CACHE to a folder that can.");
}

static void check_models(doctor *d) {
    char **paths = NULL;
    size_t count = 0;
    json_t *list = json_array();
    dw_error err = {0};
    size_t usable = 0;
    if (dw_list_models(&paths, &count, &err) != DW_OK) advise(d, false, "The folder of models cannot be read.");
    for (size_t i = 0; i < count; i++) {
        dw_gguf *gguf = NULL;
        uint64_t bytes = 0;
        char size[DW_SIZE_TEXT_BYTES];
        dw_status status = dw_gguf_open(paths[i], &gguf, &err);
        if (status == DW_OK) bytes = dw_gguf_file_bytes(gguf);
        doctor_row(d, i == 0 ? "models" : "");
        dw_cli_say(d->cli, "%s (%s)\n", paths[i], status == DW_OK ? dw_size_text(bytes, size) : err.text);
        (void)json_array_append_new(list, json_pack("{s:o, s:b, s:I}", "path", dw_json_text(paths[i], strlen(paths[i])),
                                                    "valid", status == DW_OK, "bytes", (json_int_t)bytes));
        usable += status == DW_OK;
        dw_gguf_close(gguf);
    }
    const char *named = dw_os_environment("DRIFTWOOD_MODEL");
    if (named && named[0]) {
        doctor_row(d, count ? "" : "models");
        dw_cli_say(d->cli, "DRIFTWOOD_MODEL=%s%s\n", named, dw_os_exists(named) ? "" : " (there is no such file)");
        if (!dw_os_exists(named))
            advise(d, false, "DRIFTWOOD_MODEL names a file that is not there: correct it or unset it.");
        else usable++;
    }
    if (usable == 0) {
        if (!count) doctor_row(d, "models");
        if (!count) dw_cli_say(d->cli, "none\n");
        advise(d, false, "No usable model: ./run fetches Gemma 3 270M (225 MB), or give a GGUF file with --model.");
    }
    dw_list_free(paths, count);
    put_fact(d->report, "models", list);
}

static void check_programs(doctor *d) {
    char folder[DW_PATH_BYTES];
    char **names = NULL;
    size_t count = 0;
    json_t *list = json_array();
    dw_error err = {0};
    dw_status status = dw_programs_folder(folder, &err);
    if (status == DW_OK) status = dw_list_folder(folder, ".wasm", &names, &count, &err);
    doctor_row(d, "programs");
    for (size_t i = 0; i < count; i++) {
        dw_cli_say(d->cli, "%s%.*s", i ? ", " : "", (int)(strlen(names[i]) - strlen(".wasm")), names[i]);
        (void)json_array_append_new(list, dw_json_text(names[i], strlen(names[i])));
    }
    dw_cli_say(d->cli, "%s\n", count ? "" : "none");
    if (status != DW_OK || count == 0)
        advise(d, false,
               "The shipped programs are missing (programs/ beside the executable): run ./run, or install clang, lld "
               "and wasi-libc and build again.");
    dw_list_free(names, count);
    put_fact(d->report, "programs", list);
}

/* The engine compiles and runs something: the smallest module there is. */
static void check_engine(doctor *d) {
    static const uint8_t smallest[] = {0x00, 'a', 's', 'm', 0x01, 0x00, 0x00, 0x00, 0x05, 0x03, 0x01, 0x00, 0x01, 0x07,
                                       0x0a,
                                       /* (memory (export "memory") 1). */
                                       0x01, 0x06, 'm', 'e', 'm', 'o', 'r', 'y', 0x02, 0x00};
    dw_wasm_engine *engine = NULL;
    dw_program *program = NULL;
    dw_instance *instance = NULL;
    dw_error err = {0};
    dw_instance_options options = {0};
    uint64_t start = dw_os_monotonic_ns();
    dw_wasm_engine_options engine_options = {0}; /* no cache: this is about compiling */
    dw_status status = dw_wasm_engine_create(&engine_options, &engine, &err);
    if (status == DW_OK) status = dw_program_prepare(engine, smallest, sizeof smallest, &program, &err);
    if (status == DW_OK) status = dw_instance_create(program, &options, &instance, &err);
    doctor_row(d, "wasm");
    if (status == DW_OK)
        dw_cli_say(d->cli, "engine, compiler and a 4 GiB reservation work (%.1f ms)\n",
                   dw_ms(dw_os_monotonic_ns() - start));
    else dw_cli_say(d->cli, "%s\n", err.text);
    dw_instance_destroy(instance);
    dw_program_release(program);
    dw_wasm_engine_destroy(engine);
    put_fact(d->report, "wasm",
             json_pack("{s:b, s:o}", "ok", status == DW_OK, "reason",
                       dw_json_text(err.text, status == DW_OK ? 0 : strlen(err.text))));
    if (status != DW_OK)
        advise(d, true, "Programs cannot run here; often a limit on address space (ulimit -v) is the reason.");
}

static dw_status run_doctor(dw_cli *cli, const dw_args *args, dw_error *err) {
    (void)args;
    doctor d = {.cli = cli, .report = json_object(), .advice = json_array()};
    if (!d.report || !d.advice) {
        json_decref(d.report);
        json_decref(d.advice);
        return dw_fail(err, DW_E_NO_MEMORY, "no memory for the report");
    }
    dw_cli_say_styled(cli, DW_STYLE_BOLD, "Driftwood on this machine");
    dw_cli_say(cli, "\n");
    check_devices(&d);
    check_machine(&d);
    check_engine(&d);
    check_cache(&d);
    check_models(&d);
    check_programs(&d);

    size_t n_advice = json_array_size(d.advice);
    dw_cli_say(cli, "\n");
    if (d.broken) dw_cli_say_styled(cli, DW_STYLE_BAD, "Driftwood cannot work here yet.");
    else if (n_advice) dw_cli_say_styled(cli, DW_STYLE_BOLD, "Driftwood works here, with something to improve.");
    else dw_cli_say_styled(cli, DW_STYLE_GOOD, "Everything is there. Try: driftwood chat");
    dw_cli_say(cli, "\n");
    for (size_t i = 0; i < n_advice; i++) dw_cli_say(cli, "  - %s\n", json_string_value(json_array_get(d.advice, i)));
    put_fact(d.report, "verdict", json_string(d.broken ? "broken" : n_advice ? "works, with advice" : "good"));
    put_fact(d.report, "advice", d.advice);
    if (d.broken) cli->exit_code = DW_EXIT_FAILED;
    return dw_cli_finish(cli, d.report, err);
}

static const dw_option options[] = {DW_OPTION_END};

const dw_verb dw_verb_doctor = {
    .name = "doctor",
    .summary = "what this machine has, what is missing, and what to do",
    .operands = "",
    .text = "Looks at the compute devices (and whether they can work on our memory in place), processors, memory, the\n"
            "WebAssembly engine, the cache folder, models and programs. Exit code 3 when Driftwood cannot work here.",
    .options = options,
    .run = run_doctor,
};
