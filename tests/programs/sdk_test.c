/* sdk_test.c: the SDK's functions, each against the fake host. A test is a turn: its body runs inside dw_receive, as a program's would. */
#include "programs/check.h"

#include <math.h>
#include <stdlib.h>

static int32_t (*body)(void);

int32_t dw_receive(void) { return body(); }

static void in_turn(const char *message, int32_t (*what)(void)) {
    body = what;
    assert_int_equal(fake_turn(message), 0);
}

static dw_session open_session(void) {
    dw_session session = {0};
    assert_int_equal(dw_session_open(NULL, 7, 0, &session), DW_OK);
    return session;
}

/* --- statuses ------------------------------------------------------------------------------------------------ */

static void every_status_of_the_abi_has_a_text(void **state) {
    (void)state;
    for (int32_t status = DW_E_EXIT; status <= DW_OK; status++) assert_string_not_equal(dw_status_text(status), "unknown status");
    for (int32_t status = DW_E_INTERNAL; status <= DW_E_NO_MEMORY; status++) {
        assert_string_not_equal(dw_status_text(status), "unknown status");
    }
    assert_string_equal(dw_status_text(1), "unknown status");
    assert_string_equal(dw_status_text(-18), "unknown status");
}

/* --- turn ---------------------------------------------------------------------------------------------------- */

static int32_t read_message_body(void) {
    char exact[6], tight[5], one[1];
    uint32_t size = 0;
    assert_int_equal(dw_message(exact, sizeof exact, &size), DW_OK);
    assert_string_equal(exact, "hello");
    assert_int_equal(size, 5);
    size = 0;
    assert_int_equal(dw_message(tight, sizeof tight, &size), DW_E_FULL);
    assert_string_equal(tight, "hell");
    assert_int_equal(size, 5);
    assert_int_equal(dw_message(one, sizeof one, NULL), DW_E_FULL);
    assert_string_equal(one, "");
    assert_int_equal(dw_message(one, 0, NULL), DW_E_INVALID);
    char *copy = dw_message_copy(&size);
    assert_string_equal(copy, "hello");
    assert_int_equal(size, 5);
    free(copy);
    uint64_t turn = 0;
    assert_int_equal(dw_turn_number(&turn), DW_OK);
    assert_int_equal(turn, 1);
    return 0;
}
static void a_message_is_copied_whole_or_its_beginning(void **state) {
    (void)state;
    in_turn("hello", read_message_body);
}

static int32_t empty_message_body(void) {
    char text[4] = "xxx";
    uint32_t size = 9;
    assert_int_equal(dw_message(text, sizeof text, &size), DW_OK);
    assert_string_equal(text, "");
    assert_int_equal(size, 0);
    char *copy = dw_message_copy(NULL);
    assert_string_equal(copy, "");
    free(copy);
    return 0;
}
static void an_empty_message_is_an_empty_text(void **state) {
    (void)state;
    in_turn("", empty_message_body);
}

static int32_t replies_body(void) {
    static char longest[DW_FORMATTED_BYTES_MAX + 2];
    memset(longest, 'x', DW_FORMATTED_BYTES_MAX + 1);
    assert_int_equal(dw_replyf("%s", longest), DW_E_FULL); /* nothing of it is sent */
    assert_int_equal(dw_reply_text("one "), DW_OK);
    assert_int_equal(dw_replyf("%d %s", 2, "three"), DW_OK);
    assert_int_equal(dw_reply(NULL, 0), DW_OK);
    assert_int_equal(dw_emitf("%c", 'e'), DW_OK);
    assert_int_equal(dw_emit("mitted", 6), DW_OK);
    assert_int_equal(dw_log(DW_LOG_INFO, "n=%d", 5), DW_OK);
    assert_int_equal(dw_log(DW_LOG_INFO, "%s", longest), DW_OK); /* cut */
    assert_int_equal(dw_log((enum dw_log_level)5, "too deep"), DW_E_INVALID);
    return 0;
}
static void replies_append_and_texts_that_do_not_fit_are_not_sent(void **state) {
    (void)state;
    in_turn("", replies_body);
    assert_string_equal(fake_reply(), "one 2 three");
    assert_string_equal(fake_emitted(), "emitted");
    assert_contains(fake_logged(), "n=5xxx");
    assert_int_equal(strlen(fake_logged()), 3 + DW_FORMATTED_BYTES_MAX);
}

static int32_t interrupted_body(void) { return dw_interrupted() ? 0 : DW_E_INTERNAL; }
static int32_t not_interrupted_body(void) { return dw_interrupted() ? DW_E_INTERNAL : 0; }
static void an_interruption_is_seen_in_its_turn_only(void **state) {
    (void)state;
    fake_interrupt_after(0);
    in_turn("", interrupted_body);
    in_turn("", not_interrupted_body);
}

static int32_t give_up_body(void) { return DW_E_DENIED; }
static void a_negative_return_reaches_the_host(void **state) {
    (void)state;
    body = give_up_body;
    assert_int_equal(fake_turn(""), DW_E_DENIED);
}

/* --- sessions and text --------------------------------------------------------------------------------------- */

static int32_t session_body(void) {
    dw_session a = open_session(), b;
    assert_int_equal(a.context_tokens, 4096);
    assert_int_equal(a.n_vocab, FAKE_VOCAB);
    assert_int_equal(fake_session_seed(a.handle), 7);
    int32_t tokens[8], log[8] = {0};
    uint32_t n = 0, rows = 9, copied = 0;
    assert_int_equal(dw_tokenize(&a, "abc", 3, DW_FLAG_SPECIAL, tokens, 8, &n), DW_OK);
    assert_int_equal(n, 4);
    assert_int_equal(tokens[0], FAKE_BOS);
    assert_int_equal(dw_session_sync(&a, tokens, 4, &n), DW_OK);
    assert_int_equal(n, 0);
    assert_int_equal(dw_session_length(&a, &n, &rows), DW_OK);
    assert_int_equal(n, 4);
    assert_int_equal(rows, 0);
    assert_int_equal(dw_forward(&a, NULL, 0, NULL, 0), DW_OK);
    assert_int_equal(dw_session_fork(&a, &b), DW_OK);
    assert_int_not_equal(a.handle, b.handle);
    assert_int_equal(b.n_vocab, a.n_vocab);
    assert_int_equal(dw_session_rewind(&a, 2), DW_OK);
    assert_int_equal(dw_session_rewind(&a, 3), DW_E_RANGE);
    assert_string_equal(fake_log(a.handle), "a");
    assert_string_equal(fake_log(b.handle), "abc");
    assert_int_equal(dw_session_sync(&a, tokens, 4, &n), DW_OK); /* two of four are evaluated */
    assert_int_equal(n, 2);
    assert_int_equal(dw_session_tokens(&a, 1, log, 8, &copied), DW_OK);
    assert_int_equal(copied, 3);
    assert_memory_equal(log, tokens + 1, 3 * sizeof log[0]);
    dw_session forged = {.handle = 12345};
    assert_int_equal(dw_session_length(&forged, &n, NULL), DW_E_BAD_HANDLE);
    assert_int_equal(dw_session_close(&a), DW_OK);
    assert_int_equal(a.handle, 0);
    assert_int_equal(dw_session_close(&a), DW_OK); /* not open is fine */
    assert_int_equal(dw_session_open("none", 0, 0, &a), DW_E_NOT_FOUND);
    assert_int_equal(dw_session_close(&b), DW_OK);
    return 0;
}
static void sessions_fork_rewind_and_sync(void **state) {
    (void)state;
    in_turn("", session_body);
    assert_int_equal(fake_sessions_open(), 0);
}

static int32_t text_body(void) {
    dw_session none = {0}; /* the default model's vocabulary */
    int32_t tokens[4] = {-5, -5, -5, -5};
    char text[4] = "zzz";
    uint32_t n = 0, flags = 0;
    assert_int_equal(dw_tokenize(&none, "abcde", 5, 0, tokens, 4, &n), DW_E_FULL);
    assert_int_equal(n, 5);
    assert_int_equal(tokens[0], -5);
    assert_int_equal(dw_tokenize(&none, "ab", 2, DW_FLAG_SPECIAL | DW_FLAG_CONTROL, tokens, 4, &n), DW_OK);
    assert_int_equal(n, 3);
    assert_int_equal(dw_detokenize(&none, tokens, 3, 0, text, 2, &n), DW_E_FULL);
    assert_int_equal(n, 2);
    assert_int_equal(dw_detokenize(&none, tokens, 3, 0, text, 3, &n), DW_OK);
    assert_string_equal(text, "ab");
    assert_int_equal(dw_token_info(&none, FAKE_EOS, &flags), DW_OK);
    assert_int_equal(flags, DW_TOKEN_END | DW_TOKEN_CONTROL);
    assert_int_equal(dw_token_info(&none, -1, &flags), DW_E_RANGE);
    assert_int_equal(dw_token_info(&none, FAKE_VOCAB, &flags), DW_E_RANGE);
    int32_t bos = 0, eos = 0;
    assert_int_equal(dw_special_tokens(&none, &bos, &eos), DW_OK);
    assert_int_equal(bos, FAKE_BOS);
    assert_int_equal(eos, FAKE_EOS);
    return 0;
}
static void text_functions_say_what_they_need(void **state) {
    (void)state;
    in_turn("", text_body);
}

/* --- forward and generate ------------------------------------------------------------------------------------ */

static int32_t forward_body(void) {
    static _Alignas(64) float logits[FAKE_VOCAB];
    fake_rule("a", "b", 5);
    fake_rule("a", "c", 4);
    fake_rule("b", "d", 6);
    dw_session s = open_session();
    int32_t tokens[] = {'a', 'b'}, candidates[] = {'c', FAKE_EOS};
    dw_scored_token top[2], sampled = {0};
    float scores[2], entropy = -1;
    dw_row rows[] = {dw_row_at(0), dw_row_last()};
    dw_row_top(&rows[0], top, 2);
    dw_row_candidates(&rows[0], candidates, scores, 2);
    dw_row_entropy(&rows[0], &entropy);
    dw_row_logits(&rows[1], logits);
    dw_row_sample(&rows[1], (dw_sampling_options){.temperature = 1}, &sampled);
    assert_int_equal(dw_forward(&s, tokens, 2, rows, 2), DW_OK);
    assert_int_equal(top[0].token, 'b');
    assert_int_equal(top[1].token, 'c');
    assert_true(top[0].logprob > top[1].logprob && top[0].logprob < 0);
    assert_true(fabsf(scores[0] - top[1].logprob) < 1e-6f);
    assert_true(scores[1] < scores[0]);
    assert_true(entropy > 0 && entropy < logf(FAKE_VOCAB));
    assert_int_equal(sampled.token, 'd');
    assert_true(logits['d'] == 6.0f);
    int32_t outside = FAKE_VOCAB;
    assert_int_equal(dw_forward(&s, &outside, 1, NULL, 0), DW_E_RANGE);
    assert_string_equal(fake_log(s.handle), "ab");
    dw_row beyond = dw_row_at(1);
    assert_int_equal(dw_forward(&s, tokens, 1, &beyond, 1), DW_E_RANGE);
    /* A forward without tokens reads held logits; without the wish it has nothing to evaluate here. */
    assert_false(fake_holds(s.handle));
    assert_int_equal(dw_forward_and_hold(&s, tokens, 2, NULL, 0), DW_OK);
    assert_true(fake_holds(s.handle));
    dw_row again = dw_row_last();
    dw_row_sample(&again, (dw_sampling_options){.temperature = 1}, &sampled);
    assert_int_equal(dw_forward_and_hold(&s, NULL, 0, &again, 1), DW_OK);
    assert_int_equal(sampled.token, 'd');
    assert_int_equal(dw_forward(&s, tokens, 1, NULL, 0), DW_OK);
    assert_false(fake_holds(s.handle));
    return dw_session_close(&s);
}
static void a_row_delivers_what_was_wished_for(void **state) {
    (void)state;
    in_turn("", forward_body);
}

static int32_t generate_body(void) {
    fake_rule("Q:", " yes\nQ: more", 5);
    dw_session s = open_session();
    int32_t tokens[] = {'Q', ':'};
    const char *stops[] = {"zzz", "\n"};
    char text[16];
    dw_generation g = dw_generation_defaults();
    g.tokens = tokens;
    g.n_tokens = 2;
    g.stops = stops;
    g.n_stops = 2;
    g.emit = true;
    g.text = text;
    g.text_capacity = sizeof text;
    assert_int_equal(dw_generate(&s, &g), DW_OK);
    assert_string_equal(text, " yes");
    assert_int_equal(g.text_bytes, 4);
    assert_int_equal(g.end, DW_GENERATE_STOP);
    assert_int_equal(g.stop_index, 1);
    assert_string_equal(fake_log(s.handle), "Q: yes");
    assert_true(fake_sampling().top_k == 40);

    g.n_tokens = 0;
    g.n_stops = 0;
    g.emit = false;
    g.text_capacity = 5; /* four bytes and the NUL */
    assert_int_equal(dw_generate(&s, &g), DW_E_FULL);
    assert_string_equal(text, "\nQ: ");
    assert_int_equal(g.text_bytes, 4);
    assert_int_equal(g.n_made, 8);
    assert_string_equal(fake_log(s.handle), "Q: yes\nQ: more");
    assert_int_equal(g.end, DW_GENERATE_END_TOKEN);
    g.text_capacity = 0; /* not interested in the text */
    assert_int_equal(dw_generate(&s, &g), DW_OK);
    g.n_stops = DW_STOPS_MAX + 1;
    assert_int_equal(dw_generate(&s, &g), DW_E_LIMIT);
    return dw_session_close(&s);
}
static void a_generation_stops_streams_and_reports(void **state) {
    (void)state;
    in_turn("", generate_body);
    assert_string_equal(fake_emitted(), " yes");
}

/* --- compute ------------------------------------------------------------------------------------------------- */

static int32_t compute_body(void) {
    static _Alignas(DW_TENSOR_ALIGN) float a[64] = {1, 2, 3, 4}, b[64] = {5, 6, 7, 8}, out[64];
    dw_tensor tensors[] = {dw_matrix(a, 2, 2), dw_matrix(b, 2, 2), dw_matrix(out, 2, 2)};
    dw_node node = {.op = DW_NODE_MUL_MAT, .a = 0, .b = 1, .out = 2};
    dw_computation c = {.device = "cpu", .tensors = tensors, .n_tensors = 3, .nodes = &node, .n_nodes = 1};
    assert_int_equal(dw_compute(&c), DW_OK);
    assert_true(out[0] == 17.0f && out[1] == 39.0f && out[2] == 23.0f && out[3] == 53.0f);
    assert_int_equal(c.copied_bytes, 0);
    c.copy = true;
    assert_int_equal(dw_compute(&c), DW_OK);
    assert_true(c.copied_bytes > 0);
    c.device = "abacus";
    assert_int_equal(dw_compute(&c), DW_E_NOT_FOUND);
    tensors[0] = dw_matrix(a + 1, 2, 2);
    c.device = NULL;
    assert_int_equal(dw_compute(&c), DW_E_INVALID);
    return 0;
}
static void compute_works_on_the_programs_own_memory(void **state) {
    (void)state;
    in_turn("", compute_body);
}

/* --- embed --------------------------------------------------------------------------------------------------- */

static int32_t embed_body(void) {
    static _Alignas(64) float vectors[3][FAKE_DIMENSIONS];
    static const int32_t tokens[3] = {'c', 'c', 'd'};
    dw_text texts[3] = {dw_text_of("abba"), dw_text_of("ab"), dw_text_of("cede")};
    dw_embedding e = {.model = "vague"};
    assert_int_equal(dw_embed(&e), DW_OK);
    assert_int_equal(e.dimensions, FAKE_DIMENSIONS);
    assert_int_equal(e.context_tokens, FAKE_EMBED_CONTEXT);
    e = (dw_embedding){.texts = texts, .n_texts = 3, .vectors = vectors[0], .capacity = 3 * FAKE_DIMENSIONS};
    assert_int_equal(dw_embed(&e), DW_OK);
    assert_int_equal(e.n_tokens, 10);
    assert_true(dw_dot(vectors[0], vectors[1], FAKE_DIMENSIONS) > 0.999f && dw_dot(vectors[0], vectors[2], FAKE_DIMENSIONS) == 0);
    e.raw = true;
    assert_int_equal(dw_embed(&e), DW_OK);
    assert_true(vectors[0][0] == 2 && vectors[2]['e' - 'a'] == 2);
    texts[0] = (dw_text){.ptr = dw_address(tokens), .len = 3};
    e = (dw_embedding){.texts = texts, .n_texts = 1, .are_tokens = true, .raw = true, .vectors = vectors[0], .capacity = FAKE_DIMENSIONS};
    assert_int_equal(dw_embed(&e), DW_OK);
    assert_true(vectors[0]['c' - 'a'] == 2 && vectors[0]['d' - 'a'] == 1);
    e.capacity--;
    assert_int_equal(dw_embed(&e), DW_E_RANGE);
    e.capacity++;
    texts[0] = dw_text_of("a text of more characters than the scripted model takes, all at once");
    e.are_tokens = false;
    assert_int_equal(dw_embed(&e), DW_E_FULL);
    assert_true(e.n_tokens > e.context_tokens && e.context_tokens == FAKE_EMBED_CONTEXT);
    e.model = "elsewhere";
    assert_int_equal(dw_embed(&e), DW_E_NOT_FOUND);
    return 0;
}
static void texts_become_vectors(void **state) {
    (void)state;
    in_turn("", embed_body);
}

/* --- several things at once ---------------------------------------------------------------------------------- */

static dw_request tagged(dw_request request, uint64_t user_data) {
    request.user_data = user_data;
    return request;
}

static int32_t submit_body(void) {
    dw_completion c;
    assert_int_equal(dw_wait(&c, -1), DW_E_NOT_FOUND);
    dw_request requests[] = {tagged(dw_sleep_request(3000), 33), tagged(dw_sleep_request(1000), 11), tagged(dw_sleep_request(2000), 22)};
    assert_int_equal(dw_submit(requests, 3), DW_OK);
    memset(requests, 0xee, sizeof requests); /* records are copied */
    assert_int_equal(dw_wait(&c, 0), DW_E_DEADLINE);
    assert_int_equal(dw_wait(&c, 999), DW_E_DEADLINE);
    assert_int_equal(dw_wait(&c, -1), DW_OK);
    assert_int_equal(c.user_data, 11);
    assert_int_equal(dw_sleep(5000), DW_OK); /* a blocking call meets the other two, and keeps them */
    assert_int_equal(dw_wait(&c, 0), DW_OK);
    uint64_t first = c.user_data;
    assert_int_equal(dw_wait(&c, 0), DW_OK);
    assert_int_equal(first + c.user_data, 55);
    assert_int_equal(dw_wait(&c, 0), DW_E_NOT_FOUND);
    return 0;
}
static void submitted_requests_survive_blocking_calls(void **state) {
    (void)state;
    in_turn("", submit_body);
    assert_int_equal(fake_left_outstanding(), 0);
}

static int32_t window_body(void) {
    static _Alignas(64) float logits[FAKE_VOCAB];
    fake_rule("a", "b", 5);
    dw_session s = open_session();
    int32_t token = 'a';
    dw_row row = dw_row_last();
    dw_row_logits(&row, logits);
    dw_request request = tagged(dw_forward_request(&s, &token, 1, &row, 1), 3);
    assert_int_equal(dw_submit(&request, 1), DW_OK);
    assert_true(logits['b'] == 5.0f); /* memory is not lent any more when submit returns */
    dw_completion c;
    assert_int_equal(dw_wait(&c, 0), DW_OK);
    assert_int_equal(c.status, DW_OK);
    return dw_session_close(&s);
}
static void a_submitted_request_that_lends_memory_is_done_at_once(void **state) {
    (void)state;
    in_turn("", window_body);
}

static int32_t cancel_body(void) {
    fake_rule(">", "abcdefgh", 5);
    dw_session s = open_session();
    char text[32] = "?";
    dw_generation g = dw_generation_defaults();
    g.text = text;
    g.text_capacity = sizeof text;
    int32_t start = '>';
    g.tokens = &start;
    g.n_tokens = 1;
    dw_request request = tagged(dw_generate_request(&s, &g), 5);
    assert_int_equal(dw_submit(&request, 1), DW_OK);
    start = 'x';
    memset(&g.options_, 0xee, sizeof g.options_); /* so is what they point to */
    dw_completion c;
    assert_int_equal(dw_wait(&c, 3 * FAKE_TOKEN_NS), DW_E_DEADLINE);
    uint32_t n = 0;
    assert_int_equal(dw_cancel(5, &n), DW_OK);
    assert_int_equal(n, 1);
    assert_int_equal(dw_wait(&c, -1), DW_OK);
    assert_int_equal(c.user_data, 5);
    assert_int_equal(dw_generation_take(&g, &c), DW_E_CANCELLED);
    assert_int_equal(g.n_made, 3);
    assert_string_equal(text, "abc");
    assert_string_equal(fake_log(s.handle), ">abc");
    return dw_session_close(&s);
}
static void a_cancelled_generation_keeps_what_it_made(void **state) {
    (void)state;
    in_turn("", cancel_body);
}

static int32_t many_body(void) {
    static dw_request requests[DW_SUBMITTED_MAX + 1];
    dw_completion c;
    for (uint32_t i = 0; i <= DW_SUBMITTED_MAX; i++) requests[i] = tagged(dw_sleep_request(i), i);
    assert_int_equal(dw_submit(requests, DW_SUBMITTED_MAX + 1), DW_E_LIMIT);
    assert_int_equal(dw_submit(requests, DW_SUBMITTED_MAX), DW_OK);
    assert_int_equal(dw_submit(requests, 1), DW_E_LIMIT);
    assert_int_equal(dw_sleep(DW_SUBMITTED_MAX), DW_OK); /* all of them land in the queue */
    assert_int_equal(dw_submit(requests, 1), DW_E_LIMIT); /* which is full now */
    for (uint32_t i = 0; i < DW_SUBMITTED_MAX; i++) {
        assert_int_equal(dw_wait(&c, 0), DW_OK);
        assert_int_equal(c.user_data, i);
    }
    assert_int_equal(dw_submit(requests, 1), DW_OK);
    requests[0].user_data = DW_USER_DATA_END;
    assert_int_equal(dw_submit(requests, 1), DW_E_INVALID); /* the SDK's own numbers */
    return 0;
}
static int32_t leave_ready_body(void) {
    dw_request request = tagged(dw_sleep_request(1), 9);
    assert_int_equal(dw_submit(&request, 1), DW_OK);
    return dw_sleep(2); /* fetched by now, and never asked for */
}
static int32_t nothing_left_body(void) {
    dw_completion c;
    return dw_wait(&c, -1) == DW_E_NOT_FOUND ? 0 : DW_E_INTERNAL;
}
static void the_queue_has_room_for_all_that_may_be_submitted(void **state) {
    (void)state;
    in_turn("", many_body);
    assert_int_equal(fake_left_outstanding(), 1); /* a sleep that nobody waited for ends with the turn */
    in_turn("", nothing_left_body);
}

static void completions_end_with_their_turn(void **state) {
    (void)state;
    in_turn("", leave_ready_body);
    in_turn("", nothing_left_body);
}

static int32_t all_body(void) {
    enum { N = 40 }; /* more than one batch of completions */
    static dw_session sessions[N];
    static dw_request requests[N];
    static dw_completion completions[N];
    static dw_row rows[N];
    static dw_scored_token next[N];
    int32_t tokens[N];
    fake_rule("a", "x", 5);
    fake_rule("b", "y", 5);
    for (uint32_t i = 0; i < N; i++) {
        sessions[i] = open_session();
        tokens[i] = i % 2 ? 'b' : 'a';
        rows[i] = dw_row_last();
        dw_row_top(&rows[i], &next[i], 1);
        requests[i] = dw_forward_request(&sessions[i], &tokens[i], 1, &rows[i], 1);
    }
    dw_request slow = tagged(dw_sleep_request(UINT64_C(1) << 40), 1);
    assert_int_equal(dw_submit(&slow, 1), DW_OK); /* must not be waited for */
    assert_int_equal(dw_call_all(requests, N, completions), DW_OK);
    for (uint32_t i = 0; i < N; i++) assert_int_equal(next[i].token, i % 2 ? 'y' : 'x');
    requests[3].handle = 1;
    requests[7].op = 999;
    assert_int_equal(dw_call_all(requests, N, completions), DW_E_BAD_HANDLE);
    assert_int_equal(completions[3].status, DW_E_BAD_HANDLE);
    assert_int_equal(completions[7].status, DW_E_UNSUPPORTED);
    assert_int_equal(completions[8].status, DW_OK);
    assert_int_equal(dw_call_all(requests, 0, NULL), DW_OK);
    return 0;
}
static void requests_called_together_go_through_the_door_once(void **state) {
    (void)state;
    in_turn("", all_body);
    assert_int_equal(fake_forwards_max(), 40);
    /* 40 opens, 1 submit, and twice: 16 + 16 + 8 completions fetched */
    assert_int_equal(fake_enters(), 40 + 1 + 2 * 3);
    assert_true(fake_clock_ns() < (UINT64_C(1) << 40));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_of_the_abi_has_a_text),
        host_test(a_message_is_copied_whole_or_its_beginning),
        host_test(an_empty_message_is_an_empty_text),
        host_test(replies_append_and_texts_that_do_not_fit_are_not_sent),
        host_test(an_interruption_is_seen_in_its_turn_only),
        host_test(a_negative_return_reaches_the_host),
        host_test(sessions_fork_rewind_and_sync),
        host_test(text_functions_say_what_they_need),
        host_test(a_row_delivers_what_was_wished_for),
        host_test(a_generation_stops_streams_and_reports),
        host_test(compute_works_on_the_programs_own_memory),
        host_test(texts_become_vectors),
        host_test(submitted_requests_survive_blocking_calls),
        host_test(a_submitted_request_that_lends_memory_is_done_at_once),
        host_test(a_cancelled_generation_keeps_what_it_made),
        host_test(the_queue_has_room_for_all_that_may_be_submitted),
        host_test(completions_end_with_their_turn),
        host_test(requests_called_together_go_through_the_door_once),
    };
    int failed = cmocka_run_group_tests_name("sdk", tests, NULL, NULL);
    fake_reset();
    return failed;
}
