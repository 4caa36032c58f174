/* tool.c: a WASI command: prints its arguments, copies standard input in capitals, complains, and exits with the code it is told. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) printf("argument %s\n", argv[i]);
    for (int byte; (byte = getchar()) != EOF;) putchar(toupper(byte));
    fprintf(stderr, "tool: done\n");
    return argc > 1 ? atoi(argv[1]) : 0;
}
