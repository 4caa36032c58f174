/* talker.c: an actor that prints, complains and ends in every way there is: the message says which. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dw.h"

static int turns; /* how many were kept */
static volatile int spins;

static void complain(const char *text) { (void)!write(2, text, strlen(text)); }

/* As Rust's panics are written: in pieces. */
static void panic(void) {
    complain("thread 'main' ");
    complain("panicked at ");
    complain("src/lib.rs:7:5:\nindex out of bounds: ");
    complain("the len is 3");
    __builtin_trap();
}

int32_t dw_receive(void) {
    char message[64];
    int32_t status = dw_message(message, sizeof message, NULL);
    if (status < 0) return status;
    turns++;
    if (strcmp(message, "print") == 0) printf("printed"), fflush(stdout);
    if (strcmp(message, "print the same") == 0) printf("turn %d", turns), fflush(stdout);
    if (strcmp(message, "complain") == 0) complain("all is well\n");
    if (strcmp(message, "panic") == 0) panic();
    for (int i = 1; strcmp(message, "many") == 0; i++) {
        fprintf(stderr, "line %d\n\n", i);
        if (i == 20) __builtin_trap();
    }
    if (strcmp(message, "control") == 0) complain("\033[2Jgone\n"), __builtin_trap();
    if (strcmp(message, "exit") == 0) complain("leaving\n"), exit(3);
    if (strcmp(message, "refuse") == 0) return complain("not today\n"), DW_E_DENIED;
    if (strcmp(message, "hang") == 0) complain("wait\n");
    while (strcmp(message, "hang") == 0) spins = 1;
    return dw_replyf("turn %d", turns);
}
