/* model.c: writes the small model that the benchmarks' tests use, once, and prints its path. */
#include <stdio.h>

#include "model/kit/make_model.h"

int main(void) {
    puts(made_model_path(made_model_named("grouped_q8")));
    return 0;
}
