/* A WASI command as anyone would write it: arguments, environment, standard input and output, exit code. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int main(int argc, char **argv) {
    char line[64] = "";
    struct timespec nap = {.tv_sec = 3600};
    for (int i = 0; i < argc; i++) printf("%s;", argv[i]);
    printf("%s;", getenv("COLOUR"));
    if (fgets(line, sizeof line, stdin)) printf("%s;", line);
    nanosleep(&nap, NULL); /* an hour of virtual time */
    fprintf(stderr, "done");
    return fopen("/etc/passwd", "r") ? 1 : 7;
}
