/* options.c: one parser for all verbs, driven by their tables; --help is made from the same tables. */
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

typedef struct given {
    const dw_option *option;
    const char *value;
} given;

struct dw_args {
    const dw_verb *verb;
    given *given;
    size_t n_given;
    const char **operands; /* NULL-terminated */
    size_t n_operands;
    const char **texts;    /* what dw_args_texts gives; NULL-terminated */
};

static const dw_option common_options[] = {
    {"json", DW_OPTION_FLAG, NULL, "print one JSON object instead of text"},
    {"help", DW_OPTION_FLAG, NULL, "this text"},
    DW_OPTION_END,
};

static const dw_option *find_in(const dw_option *options, const char *name, size_t length) {
    for (const dw_option *o = options; o->name; o++) {
        if (strlen(o->name) == length && memcmp(o->name, name, length) == 0) return o;
    }
    return NULL;
}

static const dw_option *find_option(const dw_verb *verb, const char *name, size_t length) {
    const dw_option *option = find_in(verb->options, name, length);
    return option ? option : find_in(common_options, name, length);
}

dw_status dw_cli_usage(dw_cli *cli, dw_error *err, const char *format, ...) {
    char text[DW_ERROR_TEXT_BYTES];
    va_list list;
    va_start(list, format);
    (void)vsnprintf(text, sizeof text, format, list);
    va_end(list);
    cli->usage_error = true;
    return dw_fail(err, DW_E_INVALID, "%s", text);
}

static bool parse_number(const char *text, uint64_t *out) {
    char *end = NULL;
    if (text[0] < '0' || text[0] > '9') return false; /* strtoull would take "-1" */
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0') return false;
    *out = value;
    return true;
}

/* Takes argv[*at], an option, and its value if it has one. */
static dw_status take_option(dw_cli *cli, dw_args *args, int argc, char **argv, int *at, dw_error *err) {
    const char *name = argv[*at] + 2;
    size_t length = strcspn(name, "=");
    const char *value = name[length] == '=' ? name + length + 1 : NULL;
    const dw_option *option = find_option(args->verb, name, length);
    if (!option) return dw_cli_usage(cli, err, "unknown option --%.*s", (int)dw_min_u64(length, 60), name);
    if (option->kind == DW_OPTION_FLAG) {
        if (value) return dw_cli_usage(cli, err, "--%s takes no value", option->name);
    } else if (!value) {
        if (*at + 1 >= argc) return dw_cli_usage(cli, err, "--%s needs %s", option->name, option->value);
        value = argv[++*at];
    }
    uint64_t number;
    if (option->kind == DW_OPTION_NUMBER && !parse_number(value, &number)) {
        return dw_cli_usage(cli, err, "--%s needs a whole number, not \"%.60s\"", option->name, value);
    }
    args->given[args->n_given++] = (given){option, value};
    if (strcmp(option->name, "json") == 0) cli->json = true;
    return DW_OK;
}

dw_status dw_args_parse(dw_cli *cli, const dw_verb *verb, int argc, char **argv, dw_args **out, dw_error *err) {
    dw_status status = DW_OK;
    *out = NULL;
    /* Every argument is at most one of each kind; lists end in NULL. */
    size_t room = (size_t)argc + 1;
    dw_args *args = calloc(1, sizeof *args);
    if (!args) return dw_fail(err, DW_E_NO_MEMORY, "no memory for the command line");
    args->verb = verb;
    args->given = calloc(room, sizeof *args->given);
    args->operands = calloc(room, sizeof *args->operands);
    args->texts = calloc(room, sizeof *args->texts);
    if (!args->given || !args->operands || !args->texts) {
        status = dw_fail(err, DW_E_NO_MEMORY, "no memory for the command line");
        goto out;
    }
    bool only_operands = false;
    for (int i = 0; status == DW_OK && i < argc; i++) {
        if (only_operands || strncmp(argv[i], "-", 1) != 0 || strcmp(argv[i], "-") == 0) {
            args->operands[args->n_operands++] = argv[i];
        } else if (strcmp(argv[i], "--") == 0) {
            only_operands = true;
        } else if (strcmp(argv[i], "-h") == 0) {
            args->given[args->n_given++] = (given){find_in(common_options, "help", 4), NULL};
        } else if (argv[i][1] != '-') {
            status = dw_cli_usage(cli, err, "unknown option %.60s (options begin with two dashes)", argv[i]);
        } else {
            status = take_option(cli, args, argc, argv, &i, err);
        }
    }
    if (status != DW_OK || dw_args_flag(args, "help")) goto out;
    if (args->n_operands < (size_t)verb->operands_min) {
        status = dw_cli_usage(cli, err, "something is missing: driftwood %s %s", verb->name, verb->operands);
    } else if (verb->operands_max >= 0 && args->n_operands > (size_t)verb->operands_max) {
        status = dw_cli_usage(cli, err, "\"%.60s\" is one argument too many", args->operands[verb->operands_max]);
    }
out:
    if (status == DW_OK) *out = args;
    else dw_args_free(args);
    return status;
}

void dw_args_free(dw_args *args) {
    if (!args) return;
    free(args->given);
    free(args->operands);
    free(args->texts);
    free(args);
}

/* The last one given under this name, or NULL. */
static const given *last_given(const dw_args *args, const char *name) {
    assert(find_option(args->verb, name, strlen(name)));
    for (size_t i = args->n_given; i > 0; i--) {
        if (strcmp(args->given[i - 1].option->name, name) == 0) return &args->given[i - 1];
    }
    return NULL;
}

/* A few options are shared by verbs of which not all have them: helpers ask, and get "not given". */
static bool has_option(const dw_args *args, const char *name) {
    return find_option(args->verb, name, strlen(name)) != NULL;
}

bool dw_args_flag(const dw_args *args, const char *name) {
    return has_option(args, name) && last_given(args, name) != NULL;
}

const char *dw_args_text(const dw_args *args, const char *name) {
    if (!has_option(args, name)) return NULL;
    const given *found = last_given(args, name);
    return found ? found->value : NULL;
}

uint64_t dw_args_number(const dw_args *args, const char *name, uint64_t otherwise) {
    uint64_t value = otherwise;
    const char *text = dw_args_text(args, name);
    if (text) (void)parse_number(text, &value); /* checked when parsed */
    return value;
}

const char *const *dw_args_texts(const dw_args *args, const char *name, size_t *count) {
    *count = 0;
    assert(find_option(args->verb, name, strlen(name)));
    for (size_t i = 0; i < args->n_given; i++) {
        if (strcmp(args->given[i].option->name, name) == 0) args->texts[(*count)++] = args->given[i].value;
    }
    args->texts[*count] = NULL;
    return args->texts;
}

size_t dw_args_operands(const dw_args *args) { return args->n_operands; }
const char *dw_args_operand(const dw_args *args, size_t index) {
    return index < args->n_operands ? args->operands[index] : NULL;
}

const char *const *dw_args_operands_from(const dw_args *args, size_t index) {
    return args->operands + dw_min_u64(index, args->n_operands);
}

/* --- help ------------------------------------------------------------------------------------------------------ */

/* Prints text from column `indent` on, broken at spaces before column 96; the first line continues at `column`. */
static void print_wrapped(const char *text, int indent, int column) {
    const int width = 96;
    while (*text) {
        int word = (int)strcspn(text, " ");
        if (column > indent && column + 1 + word > width) {
            printf("\n%*s", indent, "");
            column = indent;
        } else if (column > indent) {
            putchar(' ');
            column++;
        }
        printf("%.*s", word, text);
        column += word;
        text += word;
        while (*text == ' ') text++;
    }
    putchar('\n');
}

static void print_options(const dw_option *options) {
    for (const dw_option *o = options; o->name; o++) {
        int used = printf("  --%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
        int pad = used < 26 ? 26 - used : 1;
        printf("%*s", pad, "");
        print_wrapped(o->text, 26, 26);
    }
}

void dw_verb_help(const dw_cli *cli, const dw_verb *verb) {
    (void)cli;
    printf("usage: driftwood %s%s%s%s\n\n%s\n", verb->name, verb->operands[0] ? " " : "", verb->operands,
           verb->options[0].name ? " [OPTIONS]" : "", verb->text);
    printf("\nOptions:\n");
    print_options(verb->options);
    print_options(common_options);
}

dw_status dw_args_bytes(dw_cli *cli, const dw_args *args, const char *name, uint64_t *out, dw_error *err) {
    static const char units[] = "KMGT";
    const char *text = dw_args_text(args, name);
    *out = 0;
    if (!text) return DW_OK;
    char digits[32];
    uint64_t factor = 1;
    size_t length = strspn(text, "0123456789");
    const char *unit = text[length] && text[length + 1] == '\0' ? strchr(units, text[length]) : NULL;
    bool whole = length > 0 && length < sizeof digits && (unit || text[length] == '\0');
    if (whole) {
        memcpy(digits, text, length);
        digits[length] = '\0';
        if (unit) factor <<= 10 * (unit - units + 1);
        whole = parse_number(digits, out) && dw_mul_u64(*out, factor, out);
    }
    return whole ? DW_OK : dw_cli_usage(cli, err, "--%s needs a size like 512M or 4G, not \"%.60s\"", name, text);
}
