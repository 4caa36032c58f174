/* verb_prove.c: driftwood prove. Shows that one memory serves host, device and guest, and prints a verdict for each
 * link. */
#include "cli/prove.h"
#include "cli/verbs.h"
#include "os/os.h"

enum { ORDERS = 3 };
static const uint32_t orders[ORDERS] = {128, 512, 2048};

typedef struct proof {
    const dw_device_info *info;
    dw_link_result host_device, host_guest;
    dw_sizes_result sizes;
    dw_matmul_result matmul[ORDERS];
    size_t n_matmul, n_orders; /* done; to do */
    bool wraps;
} proof;

/* --- JSON ------------------------------------------------------------------------------------------------------ */

static json_t *json_of_link(const dw_link_result *link) {
    return json_pack("{s:b, s:b, s:b}", "same_address", (int)link->same_address, "seen_both_ways",
                     (int)link->seen_both_ways, "holds", (int)link->holds);
}

static json_t *json_us(uint64_t ns) { return json_real((double)ns / 1000.0); }

static json_t *json_of_sizes(const dw_sizes_result *result) {
    json_t *sizes = json_array();
    for (size_t i = 0; i < result->count; i++) {
        const dw_size_result *s = &result->sizes[i];
        (void)json_array_append_new(
            sizes, json_pack("{s:I, s:b, s:b, s:b, s:I, s:o, s:o, s:o, s:o}", "bytes", (json_int_t)s->bytes, "identity",
                             (int)s->link.holds, "same_address", (int)s->link.same_address, "seen_both_ways",
                             (int)s->link.seen_both_ways, "rss_added_wrap_bytes", (json_int_t)s->rss_added_wrap_bytes,
                             "rss_added_copy_bytes",
                             s->copied ? json_integer((json_int_t)s->rss_added_copy_bytes) : json_null(), "wrap_us",
                             json_us(s->wrap_ns), "unwrap_us", json_us(s->unwrap_ns), "copy_us",
                             s->copied ? json_us(s->copy_ns) : json_null()));
    }
    return sizes;
}

static json_t *json_of_matmul(const proof *p) {
    json_t *list = json_array();
    for (size_t i = 0; i < p->n_matmul; i++) {
        const dw_matmul_result *m = &p->matmul[i];
        (void)json_array_append_new(list, json_pack("{s:I, s:I, s:I, s:I, s:I, s:f, s:I, s:o, s:o, s:o}", "n",
                                                    (json_int_t)m->n, "wrong", (json_int_t)m->wrong, "checked",
                                                    (json_int_t)m->checked, "guest_wrong", (json_int_t)m->guest_wrong,
                                                    "guest_checked", (json_int_t)m->guest_checked, "error_max",
                                                    m->error_max, "copied_bytes", (json_int_t)m->copied_bytes,
                                                    "zero_copy_us", json_us(m->zero_copy_ns), "compute_us",
                                                    json_us(m->compute_ns), "copy_us", json_us(m->copy_ns)));
    }
    return list;
}

/* --- text ------------------------------------------------------------------------------------------------------ */

static void verdict(const dw_cli *cli, bool holds) {
    dw_cli_say(cli, "  ");
    if (holds) dw_cli_say_styled(cli, DW_STYLE_GOOD, "holds");
    else dw_cli_say_styled(cli, DW_STYLE_BAD, "DOES NOT HOLD");
    dw_cli_say(cli, "\n");
}

static void say_links(const dw_cli *cli, const proof *p) {
    bool device_addresses = p->info->addresses_are_host;
    dw_cli_heading(cli, "1. Host memory and the device's buffer are the same pages");
    if (p->wraps) {
        dw_cli_say(cli, "  address of the buffer = address of the memory: %s\n",
                   !device_addresses             ? "the device has addresses of its own"
                   : p->host_device.same_address ? "yes"
                                                 : "no");
        dw_cli_say(cli, "  writes seen both ways, without a copied byte:  %s\n",
                   p->host_device.seen_both_ways ? "yes" : "no");
    } else {
        dw_cli_say(cli, "  %s cannot see host memory in place: %s\n", p->info->name, p->info->reason);
    }
    verdict(cli, p->host_device.holds);
    dw_cli_heading(cli, "2. Host memory and the guest's linear memory are the same pages");
    dw_cli_say(cli, "  writes seen both ways, first and last byte of 4 GiB: %s\n",
               p->host_guest.seen_both_ways ? "yes" : "no");
    dw_cli_say(cli, "  stays in place while it grows:                       %s\n",
               p->host_guest.same_address ? "yes" : "no");
    verdict(cli, p->host_guest.holds);
}

static void say_sizes(const dw_cli *cli, const proof *p) {
    dw_cli_heading(cli, "3. All three: the guest writes, the device computes in place, the guest reads");
    if (!p->wraps) return;
    dw_cli_say_styled(cli, DW_STYLE_DIM, "  %-10s  %-11s  %26s  %24s", "memory", "same pages",
                      "memory added: wrap / copy", "time: wrap / copy");
    dw_cli_say(cli, "\n");
    for (size_t i = 0; i < p->sizes.count; i++) {
        const dw_size_result *s = &p->sizes.sizes[i];
        char bytes[DW_SIZE_TEXT_BYTES], wrap[DW_SIZE_TEXT_BYTES], copy[DW_SIZE_TEXT_BYTES];
        int64_t wrap_bytes = s->rss_added_wrap_bytes < 0 ? 0 : s->rss_added_wrap_bytes;
        int64_t copy_bytes = s->rss_added_copy_bytes < 0 ? 0 : s->rss_added_copy_bytes;
        dw_cli_say(cli, "  %-10s  %-11s  %12s / %11s", dw_size_text(s->bytes, bytes), s->link.holds ? "yes" : "NO",
                   dw_size_text((uint64_t)wrap_bytes, wrap),
                   s->copied ? dw_size_text((uint64_t)copy_bytes, copy) : "-");
        dw_cli_say(cli, "  %9.1f us / %8.1f ms\n", (double)s->wrap_ns / 1000, s->copied ? dw_ms(s->copy_ns) : 0);
    }
    if (p->sizes.note[0]) dw_cli_say(cli, "  note: %s\n", p->sizes.note);
    verdict(cli, p->sizes.holds);
}

static bool right(const dw_matmul_result *m, bool wraps) {
    return m->wrong == 0 && m->guest_wrong == 0 && m->checked > 0 && m->guest_checked > 0 &&
           (!wraps || m->copied_bytes == 0);
}

static void say_matmul(const dw_cli *cli, const proof *p) {
    bool all_right = p->n_matmul == p->n_orders;
    dw_cli_heading(cli, "4. Matrix product: matrices that the guest wrote, a result that the guest read");
    dw_cli_say_styled(cli, DW_STYLE_DIM, "  %-6s  %28s  %12s  %12s  %12s", "order", "wrong here / in guest",
                      "bytes copied", "in place", "with copies");
    dw_cli_say(cli, "\n");
    for (size_t i = 0; i < p->n_matmul; i++) {
        const dw_matmul_result *m = &p->matmul[i];
        char counts[96];
        (void)snprintf(counts, sizeof counts, "%llu of %llu / %llu of %llu", (unsigned long long)m->wrong,
                       (unsigned long long)m->checked, (unsigned long long)m->guest_wrong,
                       (unsigned long long)m->guest_checked);
        dw_cli_say(cli, "  %-6u  %28s  %12llu  %9.2f ms  %9.2f ms\n", m->n, counts, (unsigned long long)m->copied_bytes,
                   dw_ms(m->zero_copy_ns), dw_ms(m->copy_ns));
        all_right = all_right && right(m, p->wraps);
    }
    verdict(cli, all_right);
}

/* --- the verb -------------------------------------------------------------------------------------------------- */

static dw_status prove_all(dw_cli *cli, dw_runtime *runtime, bool quick, proof *p, dw_error *err) {
    dw_device *device = dw_runtime_device(runtime);
    dw_status status = p->wraps ? dw_prove_host_device(device, &p->host_device, err) : DW_OK;
    if (status == DW_OK) status = dw_prove_host_guest(&p->host_guest, err);
    if (status != DW_OK) return status;
    say_links(cli, p);
    if (p->wraps) status = dw_prove_sizes(cli, device, quick ? UINT64_C(256) << 20 : UINT64_MAX, &p->sizes, err);
    if (status != DW_OK) return status;
    say_sizes(cli, p);
    p->n_orders = quick ? ORDERS - 1 : ORDERS;
    for (size_t i = 0; status == DW_OK && i < p->n_orders; i++) {
        dw_cli_progress(cli, "multiplying matrices of order %u ...", orders[i]);
        status = dw_prove_matmul(cli, runtime, orders[i], &p->matmul[i], err);
        p->n_matmul += status == DW_OK;
    }
    dw_cli_progress(cli, NULL);
    if (status == DW_OK) say_matmul(cli, p);
    return status;
}

static bool all_hold(const proof *p) {
    bool holds = p->host_device.holds && p->host_guest.holds && p->sizes.count > 0 && p->sizes.holds &&
                 p->n_matmul == p->n_orders;
    for (size_t i = 0; i < p->n_matmul; i++) holds = holds && right(&p->matmul[i], p->wraps);
    return holds;
}

static dw_status run_prove(dw_cli *cli, const dw_args *args, dw_error *err) {
    dw_runtime *runtime = NULL;
    static proof p; /* zero, and too large for a stack frame to be read easily in a debugger */
    dw_status status = dw_open_runtime(cli, args, DW_MODEL_NONE, &runtime, err);
    if (status != DW_OK) return status;
    p.info = dw_device_info_view(dw_runtime_device(runtime));
    p.wraps = p.info->can_wrap;
    dw_cli_say_styled(cli, DW_STYLE_BOLD, "One memory: %s (%s)", p.info->name, p.info->description);
    dw_cli_say(cli, "\n");
    status = prove_all(cli, runtime, dw_args_flag(args, "quick"), &p, err);
    if (status != DW_OK) goto out;
    bool holds = all_hold(&p);
    dw_cli_say(cli, "\n");
    if (holds) dw_cli_say_styled(cli, DW_STYLE_GOOD, "Proven: one memory for host, %s and guest.", p.info->name);
    else dw_cli_say_styled(cli, DW_STYLE_BAD, "Not proven on %s.", p.info->name);
    dw_cli_say(cli, "\n");
    if (!holds) cli->exit_code = DW_EXIT_FAILED;
    status = dw_cli_finish(cli,
                           json_pack("{s:s, s:s, s:b, s:s, s:{s:o, s:o}, s:o, s:o, s:b}", "device", p.info->name,
                                     "description", p.info->description, "can_wrap", (int)p.wraps, "note", p.sizes.note,
                                     "links", "host_device", json_of_link(&p.host_device), "host_guest",
                                     json_of_link(&p.host_guest), "sizes", json_of_sizes(&p.sizes), "matmul",
                                     json_of_matmul(&p), "holds", (int)holds),
                           err);
out:
    dw_runtime_destroy(runtime);
    return status;
}

static const dw_option options[] = {
    {"quick", DW_OPTION_FLAG, NULL, "leave out the sizes above 256 MiB and the largest matrices"},
    DW_OPTION_DEVICE,
    DW_OPTION_THREADS,
    DW_OPTION_KV_BUDGET,
    DW_OPTION_MEMORY,
    DW_OPTION_COMPILE_LIMIT,
    DW_OPTION_END,
};

const dw_verb dw_verb_prove = {
    .name = "prove",
    .summary = "show that host, device and guest share one memory, and what that saves",
    .operands = "",
    .text =
        "Three links, each on its own and then composed: host memory and device buffer, host memory and the guest's\n"
        "linear memory, and a guest whose matrices a device multiplies in place. Prints the resident memory that a "
        "wrap\n"
        "adds at 16 MiB to 4 GiB beside what a copy adds, and the number of wrong elements against a computation in\n"
        "double precision. Needs up to 9 GiB of free memory for all of it; with less, the largest sizes are left out.\n"
        "Exit code 0 only if everything holds.",
    .options = options,
    .run = run_prove,
};
