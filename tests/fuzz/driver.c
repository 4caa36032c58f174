/* driver.c: runs LLVMFuzzerTestOneInput without libFuzzer.
 *
 *     fuzz_x [--runs N] [--seed S] [CORPUS...]
 *
 * Every file of the corpus (a file, or the files of a folder, one level) is run once as it is; then N inputs are made
 * from them by random mutations. What the target sees depends on the seed, the corpus and N only, so a failure is
 * repeated with the seed that was printed. When the target crashes or a sanitizer stops it, the input is written to
 * $DW_FUZZ_CRASH (default: fuzz.crash) and the run's number is told; the file, given as corpus with `--runs 0`, shows
 * the failure alone.
 *
 * A target may define LLVMFuzzerInitialize. Inputs are exactly sized heap blocks, so that the address sanitizer sees
 * the first byte read past the end. Any other option is an error: a typing mistake must not pass as a green run.
 */
#define _POSIX_C_SOURCE 200809L /* opendir, sigaction, open: a tool beside the runtime, not a user of os.h */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);
/* Present when the address sanitizer is linked. */
__attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)(void));

/* An input never grows past this; the largest file of the corpus must fit too. */
#define INPUT_BYTES_MAX ((size_t)64 << 20)
/* Mutated inputs may exceed the largest file of the corpus by this much. */
#define GROWTH_BYTES_MAX ((size_t)4096)
#define MUTATIONS_MAX 8

typedef struct input {
    uint8_t *bytes;
    size_t size;
} input;

static struct {
    input *files;
    size_t n_files;
    size_t largest;
} corpus;

/* What the crash handlers need; set before each run. */
static struct {
    const uint8_t *bytes;
    size_t size;
    uint64_t run;
    uint64_t seed;
    const char *crash_path;
    volatile sig_atomic_t reported;
} current;

static void fail(const char *what, const char *which)
{
    fprintf(stderr, "fuzz: %s: %s\n", what, which);
    exit(2);
}

/* --- random numbers: splitmix64, small and the same everywhere --- */

static uint64_t random_state;

static uint64_t random_next(void)
{
    uint64_t z = (random_state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* 0 <= result < bound; the small bias does not matter here. */
static size_t random_below(size_t bound)
{
    return bound == 0 ? 0 : (size_t)(random_next() % bound);
}

/* --- when the target dies --- */

static void write_all(int fd, const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    while (size > 0) {
        ssize_t n = write(fd, at, size);
        if (n <= 0)
            return;
        at += n;
        size -= (size_t)n;
    }
}

static void write_text(const char *text)
{
    write_all(STDERR_FILENO, text, strlen(text));
}

static void write_number(uint64_t value)
{
    char digits[24];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    write_all(STDERR_FILENO, digits + at, sizeof digits - at);
}

/* Only async-signal-safe calls: this runs inside a signal handler. */
static void report_crash(void)
{
    if (current.reported || current.bytes == NULL)
        return;
    current.reported = 1;
    write_text("fuzz: died in run ");
    write_number(current.run);
    write_text(" of seed ");
    write_number(current.seed);
    int fd = open(current.crash_path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd >= 0) {
        write_all(fd, current.bytes, current.size);
        close(fd);
        write_text("; its input is ");
        write_text(current.crash_path);
    }
    write_text("\n");
}

static void on_signal(int number)
{
    report_crash();
    signal(number, SIG_DFL);
    raise(number);
}

static void watch_for_crashes(void)
{
    static const int numbers[] = { SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        /* Where the sanitizer handles the signal itself, it stays in charge and calls back. */
        struct sigaction before;
        if (sigaction(numbers[i], NULL, &before) == 0 && before.sa_handler == SIG_DFL)
            signal(numbers[i], on_signal);
    }
    if (__sanitizer_set_death_callback != NULL)
        __sanitizer_set_death_callback(report_crash);
}

/* --- the corpus --- */

static void corpus_add_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        fail(path, strerror(errno));
    struct stat about;
    if (fstat(fileno(file), &about) != 0 || (uint64_t)about.st_size > INPUT_BYTES_MAX)
        fail(path, "unreadable or too large");
    input made = { NULL, (size_t)about.st_size };
    made.bytes = malloc(made.size > 0 ? made.size : 1);
    input *grown = realloc(corpus.files, (corpus.n_files + 1) * sizeof *grown);
    if (made.bytes == NULL || grown == NULL)
        fail(path, "out of memory");
    if (fread(made.bytes, 1, made.size, file) != made.size)
        fail(path, "short read");
    fclose(file);
    corpus.files = grown;
    corpus.files[corpus.n_files++] = made;
    if (made.size > corpus.largest)
        corpus.largest = made.size;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The files of a folder by name: directory order differs between machines, and runs must not. */
static void corpus_add_folder(const char *path, DIR *folder)
{
    char **names = NULL;
    size_t n = 0;
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        size_t length = strlen(path) + strlen(entry->d_name) + 2;
        char *name = malloc(length);
        char **grown = realloc(names, (n + 1) * sizeof *grown);
        if (name == NULL || grown == NULL)
            fail(path, "out of memory");
        snprintf(name, length, "%s/%s", path, entry->d_name);
        names = grown;
        names[n++] = name;
    }
    if (n > 1)
        qsort(names, n, sizeof *names, by_name);
    for (size_t i = 0; i < n; i++) {
        struct stat about;
        if (stat(names[i], &about) == 0 && S_ISREG(about.st_mode))
            corpus_add_file(names[i]);
        free(names[i]);
    }
    free(names);
}

static void corpus_add(const char *path)
{
    DIR *folder = opendir(path);
    if (folder != NULL) {
        corpus_add_folder(path, folder);
        closedir(folder);
    } else {
        corpus_add_file(path);
    }
}

/* --- mutations: each changes `bytes[*size]`, whose capacity is `capacity` --- */

static void flip_bit(uint8_t *bytes, size_t *size)
{
    if (*size > 0)
        bytes[random_below(*size)] ^= (uint8_t)(1u << random_below(8));
}

static void set_byte(uint8_t *bytes, size_t *size)
{
    static const uint8_t interesting[] = { 0x00, 0x01, 0x7f, 0x80, 0xff, 0x20, '"', '{', '}', '[', ']', ',', ':', '0', '9', '-' };
    if (*size == 0)
        return;
    uint8_t value = (random_next() & 1) != 0 ? (uint8_t)random_next() : interesting[random_below(sizeof interesting)];
    bytes[random_below(*size)] = value;
}

/* Lengths, counts and offsets are where parsers go wrong: set or nudge a little-endian integer, aligned more often
 * than not. */
static void edit_integer(uint8_t *bytes, size_t *size)
{
    static const uint64_t interesting[] = {
        0, 1, 2, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff,
        UINT64_C(0x100000000), UINT64_C(0x7fffffffffffffff), UINT64_C(0x8000000000000000), UINT64_MAX, UINT64_MAX - 7
    };
    size_t width = (size_t)1 << random_below(4);
    if (*size < width)
        return;
    size_t at = random_below(*size - width + 1);
    if (random_below(4) != 0)
        at -= at % width;
    uint64_t value = 0;
    for (size_t i = 0; i < width; i++)
        value |= (uint64_t)bytes[at + i] << (8 * i);
    switch (random_below(4)) {
    case 0: value = interesting[random_below(sizeof interesting / sizeof interesting[0])]; break;
    case 1: value += random_below(33); break;
    case 2: value -= random_below(33); break;
    default: value = *size + random_below(65) - 32; break; /* near the file's own size */
    }
    for (size_t i = 0; i < width; i++)
        bytes[at + i] = (uint8_t)(value >> (8 * i));
}

static void truncate_end(uint8_t *bytes, size_t *size)
{
    (void)bytes;
    /* Half of the time by a few bytes: a file that is almost whole gets further into a reader. */
    size_t cut = random_below((random_next() & 1) != 0 ? 17 : *size + 1);
    *size -= cut < *size ? cut : *size;
}

/* Moves the tail to make room for `length` bytes at `at`; answers how many were made. */
static size_t open_gap(uint8_t *bytes, size_t *size, size_t capacity, size_t at, size_t length)
{
    if (length > capacity - *size)
        length = capacity - *size;
    memmove(bytes + at + length, bytes + at, *size - at);
    *size += length;
    return length;
}

static void insert_bytes(uint8_t *bytes, size_t *size, size_t capacity)
{
    size_t at = random_below(*size + 1);
    size_t length = open_gap(bytes, size, capacity, at, 1 + random_below(32));
    bool one_value = (random_next() & 1) != 0;
    uint8_t value = (uint8_t)random_next();
    for (size_t i = 0; i < length; i++)
        bytes[at + i] = one_value ? value : (uint8_t)random_next();
}

static void remove_bytes(uint8_t *bytes, size_t *size)
{
    if (*size == 0)
        return;
    size_t at = random_below(*size);
    size_t length = 1 + random_below(*size - at < 64 ? *size - at : 64);
    if (length > *size - at)
        length = *size - at;
    memmove(bytes + at, bytes + at + length, *size - at - length);
    *size -= length;
}

static void duplicate_chunk(uint8_t *bytes, size_t *size, size_t capacity)
{
    if (*size == 0)
        return;
    size_t from = random_below(*size);
    size_t length = 1 + random_below(*size - from < 256 ? *size - from : 256);
    if (length > *size - from)
        length = *size - from;
    uint8_t chunk[256 + 1];
    memcpy(chunk, bytes + from, length);
    size_t at = random_below(*size + 1);
    memcpy(bytes + at, chunk, open_gap(bytes, size, capacity, at, length));
}

/* Overwrites a stretch with bytes of the same place, or of any place, of another file. */
static void splice(uint8_t *bytes, size_t *size)
{
    const input *other = &corpus.files[random_below(corpus.n_files)];
    if (*size == 0 || other->size == 0)
        return;
    size_t from = random_below(other->size);
    size_t at = (random_next() & 1) != 0 && from < *size ? from : random_below(*size);
    size_t room = *size - at < other->size - from ? *size - at : other->size - from;
    memcpy(bytes + at, other->bytes + from, 1 + random_below(room));
}

/* Most parsers decide in their first bytes: half of the mutations see only the head of a large input. */
static void mutate(uint8_t *bytes, size_t *size, size_t capacity)
{
    static const size_t head_bytes = 4096;
    size_t n = 1 + random_below(MUTATIONS_MAX);
    for (size_t i = 0; i < n; i++) {
        size_t head = *size;
        bool in_place = *size > head_bytes && (random_next() & 1) != 0;
        if (in_place)
            head = head_bytes;
        switch (random_below(in_place ? 6 : 12)) {
        case 0: case 1: flip_bit(bytes, &head); break;
        case 2: set_byte(bytes, &head); break;
        case 3: case 4: edit_integer(bytes, &head); break;
        case 5: splice(bytes, &head); break;
        case 6: truncate_end(bytes, size); break;
        case 7: insert_bytes(bytes, size, capacity); break;
        case 8: remove_bytes(bytes, size); break;
        case 9: duplicate_chunk(bytes, size, capacity); break;
        default: edit_integer(bytes, size); break;
        }
    }
}

/* --- running --- */

/* A block of exactly `size` bytes per run: slow for large inputs, but a reader that looks one byte too far is caught. */
static void run_one(const uint8_t *bytes, size_t size)
{
    uint8_t *exact = malloc(size > 0 ? size : 1);
    if (exact == NULL)
        fail("run", "out of memory");
    memcpy(exact, bytes, size);
    current.bytes = bytes;
    current.size = size;
    LLVMFuzzerTestOneInput(exact, size);
    current.bytes = NULL;
    current.run++;
    free(exact);
}

static void run_mutations(uint64_t runs)
{
    size_t capacity = corpus.largest + GROWTH_BYTES_MAX;
    uint8_t *bytes = malloc(capacity);
    if (bytes == NULL)
        fail("mutations", "out of memory");
    for (uint64_t i = 0; i < runs; i++) {
        const input *origin = &corpus.files[random_below(corpus.n_files)];
        size_t size = origin->size;
        memcpy(bytes, origin->bytes, size);
        mutate(bytes, &size, capacity);
        run_one(bytes, size);
    }
    free(bytes);
}

static uint64_t number_of(const char *option, const char *text)
{
    char *end = NULL;
    errno = 0;
    unsigned long long value = text != NULL ? strtoull(text, &end, 0) : 0;
    if (text == NULL || end == text || *end != '\0' || errno != 0)
        fail(option, "needs a number");
    return value;
}

int main(int argc, char **argv)
{
    uint64_t runs = 20000;
    uint64_t seed = (uint64_t)time(NULL);
    bool corpus_asked = false;
    if (getenv("DW_FUZZ_SEED") != NULL)
        seed = number_of("DW_FUZZ_SEED", getenv("DW_FUZZ_SEED"));
    if (getenv("DW_FUZZ_RUNS") != NULL)
        runs = number_of("DW_FUZZ_RUNS", getenv("DW_FUZZ_RUNS"));
    if (LLVMFuzzerInitialize != NULL)
        LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--runs") == 0) {
            i++;
            if (getenv("DW_FUZZ_RUNS") == NULL)
                runs = number_of("--runs", argv[i]);
        } else if (strcmp(argv[i], "--seed") == 0) {
            i++;
            seed = number_of("--seed", argv[i]);
        } else if (argv[i][0] == '-') {
            fail("unknown option", argv[i]);
        } else {
            corpus_asked = true;
            corpus_add(argv[i]);
        }
    }
    const char *crash_path = getenv("DW_FUZZ_CRASH");
    current.crash_path = crash_path != NULL ? crash_path : "fuzz.crash";
    current.seed = seed;
    random_state = seed;
    printf("fuzz: seed %" PRIu64 ", %zu files, %" PRIu64 " mutations\n", seed, corpus.n_files, runs);
    fflush(stdout);
    watch_for_crashes();

    size_t n_given = corpus.n_files;
    if (n_given == 0 && corpus_asked)
        fail("corpus", "holds no file");
    if (n_given == 0) {
        /* Nothing to start from: one empty input, which the insertions fill. */
        corpus.files = calloc(1, sizeof *corpus.files);
        if (corpus.files == NULL || (corpus.files[0].bytes = calloc(1, 1)) == NULL)
            fail("corpus", "out of memory");
        corpus.n_files = 1;
    }
    for (size_t i = 0; i < n_given; i++)
        run_one(corpus.files[i].bytes, corpus.files[i].size);
    run_mutations(runs);
    printf("fuzz: %" PRIu64 " inputs run, none crashed (seed %" PRIu64 ")\n", current.run, seed);
    for (size_t i = 0; i < corpus.n_files; i++)
        free(corpus.files[i].bytes);
    free(corpus.files);
    return 0;
}
