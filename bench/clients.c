/* clients.c: N clients of a llama-server on this machine, each on a thread of its own, that ask for a completion at the same time and read
 * it as it is streamed. The prompts are prompt.h's, sent as tokens, so that the server gets what our side gets.
 *
 * A C program with plain sockets, because a client shares the processor with the server: what it takes for itself is printed too
 * (client_cpu_us), to show that it is not what was measured. One JSON object a round:
 *
 *   us                from the first request to the end of the last answer
 *   first_token_us    [N] from a client's request to its first piece of text
 *   made              [N] tokens
 *   cached, evaluated [N] tokens of the prompt that the server had, and had to compute
 *
 * HTTP/1.1 as far as one server needs it: a POST with a length, an answer in chunks. Connects to 127.0.0.1 and nowhere else. */
#define _DEFAULT_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/base.h"
#include "guests/loop.h"
#include "os/os.h"
#include "prompt.h"

enum {
    CLIENTS_MAX = 256,
    WARMING_TOKENS = 4,
    ANSWER_BYTES_MAX = 8 << 20,
    PATIENCE_SECONDS = 300 /* without a byte from the server */
};

typedef struct options {
    unsigned port, clients, repeats, shared_tokens, shared_salt, own_tokens, made_tokens, salt, n_vocab;
    int bos, slot;   /* slot -1: the server chooses */
    bool cache, warm; /* cache: the server may use what it has of a prompt; warm: a round before those that count */
} options;

typedef struct client {
    const options *options;
    dw_os_thread *thread;
    unsigned salt, n_made;
    double first_token_us;
    long made, cached, evaluated;
    /* the answer so far, its chunks put together */
    char *text;
    size_t size;
} client;

static _Noreturn void give_up(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("bench_clients: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static double now_us(void) { return (double)dw_os_monotonic_ns() / 1000.0; }

/* --- request ------------------------------------------------------------------------------------------------- */

/* Head and body, NUL-terminated, malloc'ed. */
static char *request_of(const client *c) {
    static const struct { float temperature, top_p, min_p; unsigned top_k; } sampling = {LOOP_SAMPLING};
    const options *o = c->options;
    unsigned n = o->shared_tokens + o->own_tokens;
    bench_prompt prompt = {.n_vocab = o->n_vocab, .bos = o->bos, .shared_salt = o->shared_salt, .n_shared = o->shared_tokens,
                           .own_salt = c->salt, .n_own = o->own_tokens};
    int32_t *tokens = calloc(n, sizeof *tokens);
    size_t room = 1024 + n * sizeof "2147483647,", at = 0;
    char *body = malloc(room), *whole = malloc(room + 256);
    if (tokens == NULL || body == NULL || whole == NULL) give_up("no memory");
    bench_prompt_make(&prompt, tokens);
    at += (size_t)snprintf(body, room, "{\"prompt\":[");
    for (unsigned i = 0; i < n; i++) at += (size_t)snprintf(body + at, room - at, i > 0 ? ",%d" : "%d", tokens[i]);
    at += (size_t)snprintf(body + at, room - at,
                           "],\"n_predict\":%u,\"stream\":true,\"ignore_eos\":true,\"cache_prompt\":%s,\"id_slot\":%d,\"seed\":%u,"
                           "\"temperature\":%g,\"top_k\":%u,\"top_p\":%g,\"min_p\":%g,\"repeat_penalty\":1,"
                           "\"samplers\":[\"top_k\",\"top_p\",\"min_p\",\"temperature\"]}",
                           c->n_made, o->cache ? "true" : "false", o->slot, c->salt, (double)sampling.temperature, sampling.top_k,
                           (double)sampling.top_p, (double)sampling.min_p);
    snprintf(whole, room + 256, "POST /completion HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s", at, body);
    free(tokens);
    free(body);
    return whole;
}

static int connect_to(unsigned port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    struct timeval patience = {.tv_sec = PATIENCE_SECONDS};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0) give_up("no socket");
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) give_up("nobody listens on 127.0.0.1:%u", port);
    return fd;
}

static void send_all(int fd, const char *data) {
    for (size_t left = strlen(data); left > 0;) {
        ssize_t sent = send(fd, data, left, MSG_NOSIGNAL);
        if (sent <= 0) give_up("the server does not take the request");
        data += sent;
        left -= (size_t)sent;
    }
}

/* --- answer -------------------------------------------------------------------------------------------------- */

/* What has come over the line and is not looked at yet. */
typedef struct line {
    int fd;
    char data[65536];
    size_t from, to;
} line;

/* False at the end. */
static bool fill(line *l) {
    ssize_t n = recv(l->fd, l->data, sizeof l->data, 0);
    if (n < 0) give_up("no answer within %d s", PATIENCE_SECONDS);
    l->from = 0;
    l->to = (size_t)n;
    return n > 0;
}

static int next_byte(line *l) {
    if (l->from == l->to && !fill(l)) give_up("the answer ends too early");
    return (unsigned char)l->data[l->from++];
}

/* One line without its end; what does not fit is dropped. */
static void read_line(line *l, char *out, size_t room) {
    size_t n = 0;
    for (int byte; (byte = next_byte(l)) != '\n';) {
        if (byte != '\r' && n + 1 < room) out[n++] = (char)byte;
    }
    out[n] = 0;
}

/* Ends the program with the server's reason, as far as it came in one piece. */
static _Noreturn void refused(line *l, const char *status) {
    char text[512];
    do read_line(l, text, sizeof text);
    while (text[0] != 0);
    if (l->from == l->to) (void)fill(l);
    give_up("the server says: %s: %.*s", status, (int)(l->to - l->from), l->data + l->from);
}

static void read_head(line *l) {
    char status[128], text[512];
    bool chunked = false;
    read_line(l, status, sizeof status);
    if (strncmp(status, "HTTP/1.1 200", 12) != 0) refused(l, status);
    for (;;) {
        read_line(l, text, sizeof text);
        if (text[0] == 0) break;
        chunked |= strcmp(text, "Transfer-Encoding: chunked") == 0;
    }
    if (!chunked) give_up("the server does not stream");
}

/* Appends the next chunk to the answer; false when it was the last. */
static bool read_chunk(line *l, client *c) {
    char text[64];
    read_line(l, text, sizeof text);
    unsigned long n = strtoul(text, NULL, 16);
    if (c->size + n >= ANSWER_BYTES_MAX) give_up("the answer is too long");
    char *grown = realloc(c->text, c->size + n + 1);
    if (grown == NULL) give_up("no memory");
    c->text = grown;
    for (unsigned long i = 0; i < n; i++) c->text[c->size++] = (char)next_byte(l);
    c->text[c->size] = 0;
    read_line(l, text, sizeof text);
    return n > 0;
}

/* The number behind "name": in the last event, which sums up. */
static long number_in(const char *event, const char *name) {
    char key[64];
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *at = strstr(event, key);
    if (at == NULL) give_up("the last event does not say '%s'", name);
    return strtol(at + strlen(key), NULL, 10);
}

static void ask(void *argument) {
    client *c = argument;
    line *l = calloc(1, sizeof *l);
    char *request = request_of(c);
    if (l == NULL) give_up("no memory");
    double start = now_us();
    c->first_token_us = 0;
    c->size = 0;
    l->fd = connect_to(c->options->port);
    send_all(l->fd, request);
    read_head(l);
    while (read_chunk(l, c)) {
        if (c->first_token_us == 0 && strstr(c->text, "data: {") != NULL) c->first_token_us = now_us() - start;
    }
    close(l->fd);
    const char *last = NULL;
    for (const char *at = c->text; (at = strstr(at, "data: {")) != NULL; at++) last = at;
    if (last == NULL || strstr(last, "\"stop\":true") == NULL) give_up("the stream ends without its last event: %.200s", c->text);
    c->made = number_in(last, "tokens_predicted");
    c->cached = number_in(last, "cache_n");
    c->evaluated = number_in(last, "prompt_n");
    if (c->made != (long)c->n_made) give_up("the server made %ld tokens, not %u", c->made, c->n_made);
    free(request);
    free(l);
}

/* --- rounds -------------------------------------------------------------------------------------------------- */

static double cpu_us(void) {
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1e6 + (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec);
}

static void print_numbers(const char *name, const client *clients, unsigned n, double (*of)(const client *c)) {
    printf(",\"%s\":[", name);
    for (unsigned i = 0; i < n; i++) printf(i > 0 ? ",%.0f" : "%.0f", of(&clients[i]));
    printf("]");
}

static double first_token_of(const client *c) { return c->first_token_us; }
static double made_of(const client *c) { return (double)c->made; }
static double cached_of(const client *c) { return (double)c->cached; }
static double evaluated_of(const client *c) { return (double)c->evaluated; }

static void run_round(const options *o, client *clients, unsigned first_salt, unsigned n_made, bool print) {
    dw_error err;
    double cpu = cpu_us(), start = now_us();
    for (unsigned i = 0; i < o->clients; i++) {
        clients[i].options = o;
        clients[i].salt = first_salt + i;
        clients[i].n_made = n_made;
        if (dw_os_thread_create("client", 1 << 20, ask, &clients[i], &clients[i].thread, &err) != DW_OK) give_up("%s", err.text);
    }
    for (unsigned i = 0; i < o->clients; i++) dw_os_thread_join(clients[i].thread);
    double us = now_us() - start;
    if (!print) return;
    printf("{\"us\":%.0f,\"client_cpu_us\":%.0f", us, cpu_us() - cpu);
    print_numbers("first_token_us", clients, o->clients, first_token_of);
    print_numbers("made", clients, o->clients, made_of);
    print_numbers("cached", clients, o->clients, cached_of);
    print_numbers("evaluated", clients, o->clients, evaluated_of);
    printf("}\n");
    fflush(stdout);
}

static _Noreturn void usage(void) {
    fputs("usage: bench_clients --port N --n-vocab N --bos N [--clients N] [--repeats N] [--shared-tokens N --shared-salt N]\n"
          "       [--own-tokens N] [--made-tokens N] [--salt N] [--slot N] [--cache 0|1] [--warm 0|1]\n"
          "Clients of the llama-server on 127.0.0.1; bench/engine and bench/share run it. One JSON object a round.\n", stderr);
    exit(2);
}

int main(int argc, char **argv) {
    options o = {.clients = 1, .repeats = 1, .own_tokens = 128, .made_tokens = 64, .salt = 1, .bos = -1, .slot = -1};
    long cache = 0, warm = 0, slot = -1, bos = -1;
    if (argc % 2 == 0) usage();
    for (int i = 1; i < argc; i += 2) {
        const struct { const char *name; unsigned *number; long *signed_number; } known[] = {
            {"--port", &o.port, NULL}, {"--clients", &o.clients, NULL}, {"--repeats", &o.repeats, NULL}, {"--n-vocab", &o.n_vocab, NULL},
            {"--shared-tokens", &o.shared_tokens, NULL}, {"--shared-salt", &o.shared_salt, NULL}, {"--own-tokens", &o.own_tokens, NULL},
            {"--made-tokens", &o.made_tokens, NULL}, {"--salt", &o.salt, NULL}, {"--slot", NULL, &slot}, {"--bos", NULL, &bos},
            {"--cache", NULL, &cache}, {"--warm", NULL, &warm},
        };
        size_t at = 0, n_known = sizeof known / sizeof known[0];
        while (at < n_known && strcmp(argv[i], known[at].name) != 0) at++;
        if (at == n_known) usage();
        if (known[at].number != NULL) *known[at].number = (unsigned)strtoul(argv[i + 1], NULL, 10);
        else *known[at].signed_number = strtol(argv[i + 1], NULL, 10);
    }
    o.cache = cache != 0;
    o.warm = warm != 0;
    o.slot = (int)slot;
    o.bos = (int)bos;
    if (o.port == 0 || o.port > 65535 || o.n_vocab == 0 || o.clients == 0 || o.clients > CLIENTS_MAX || o.own_tokens == 0) usage();
    client *clients = calloc(o.clients, sizeof *clients);
    if (clients == NULL) give_up("no memory");
    if (o.warm) run_round(&o, clients, o.salt, WARMING_TOKENS, false);
    for (unsigned i = 0; i < o.repeats; i++) run_round(&o, clients, o.salt + (i + (unsigned)o.warm) * o.clients, o.made_tokens, true);
    for (unsigned i = 0; i < o.clients; i++) free(clients[i].text);
    free(clients);
    return 0;
}
