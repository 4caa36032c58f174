/* A C program with everything that wasi-libc keeps in memory: heap, static data, stdio buffers, a table of functions. */
#define _GNU_SOURCE /* clock_gettime, getentropy */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct entry { struct entry *next; int amount; char text[24]; } entry;

static entry *first;
static int steps;
static int *sorted;
static long long started;

static int add(int a, int b) { return a + b; }
static int subtract(int a, int b) { return a - b; }
static int scramble(int a, int b) { return a * 31 ^ b; }
static int (*const operations[])(int, int) = {add, subtract, scramble};

static int compare(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

__attribute__((constructor)) static void begin(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    started = now.tv_sec * 1000000000LL + now.tv_nsec;
    srand(7);
}

__attribute__((export_name("driftwood_receive"))) int driftwood_receive(void) {
    entry *e = malloc(sizeof *e);
    if (!e) return -1;
    unsigned char fresh; /* from the host, in every turn: the state of its stream must be restored, too */
    if (getentropy(&fresh, 1) != 0) return -3;
    e->amount = rand() % 1000 + fresh;
    steps++;
    snprintf(e->text, sizeof e->text, "step %d %.3f", steps, steps / 7.0);
    e->next = first;
    first = e;
    int *grown = realloc(sorted, (size_t)steps * 4000 * sizeof *sorted); /* makes the memory grow now and then */
    if (!grown) return -2;
    sorted = grown;
    int n = 0, sum = 0;
    for (entry *i = first; i; i = i->next) sorted[n++] = i->amount;
    qsort(sorted, (size_t)n, sizeof *sorted, compare);
    for (int i = 0; i < n; i++) sum = operations[(i + steps) % 3](sum, sorted[i]);
    printf("%s: %d\n", e->text, sum);
    if (steps % 5 == 0) {
        entry *dropped = first->next;
        first->next = dropped ? dropped->next : NULL;
        free(dropped);
    }
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return sum ^ (int)started ^ (int)now.tv_nsec;
}
