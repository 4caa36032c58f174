/* fake_host.h: the host's side of include/driftwood/guest.h, small enough to read in one sitting: dw_enter over a scripted model. Programs
 * and the SDK are linked with it natively, so that sanitizers see them. It is strict: what guest.h forbids is refused.
 *
 * Not here: turns that are undone (memory of a native process cannot be put back), several actors, real inference.
 *
 * The model: one token is one byte; 256 begins a text, 257 ends it. What follows a text is told by rules (fake_rule); where none
 * applies, the text ends. Sampling always takes the likeliest.
 * Time: a clock of its own that moves only while the guest waits. A token takes FAKE_TOKEN_NS, everything else no time.
 */
#ifndef DW_TESTS_FAKE_HOST_H
#define DW_TESTS_FAKE_HOST_H

#include <stdbool.h>
#include <stdint.h>
#include <driftwood/guest.h>

enum { FAKE_BOS = 256, FAKE_EOS = 257, FAKE_VOCAB = 258, FAKE_TOKEN_NS = 1000000 };
enum { FAKE_DIMENSIONS = 8, FAKE_EMBED_CONTEXT = 64 }; /* of the model "vague", which embeds by counting letters */
enum { FAKE_FIRST_HANDLE = 0x51000 }; /* of the first session; the lowest free one is taken */

/* A new host: no sessions, no rules, clock at 0. The guest's own variables stay. */
void fake_reset(void);
void fake_set_context(uint32_t tokens); /* of sessions opened from now on; 4096 after a reset */
/* Where the log ends with `cue` and a beginning of `text`, the next byte of `text` gets this logit. Others have 0, the end of text 1. The
 * strings must stay. */
void fake_rule(const char *cue, const char *text, float logit);

/* One turn with this message; the value of driftwood_receive. Ends with nothing outstanding, as rule 6 says. */
int32_t fake_turn(const char *message);
/* The user interrupts, once so many tokens have been generated in this turn (0: at once). Ends with the turn. */
void fake_interrupt_after(uint32_t n_tokens);

/* Of the last turn. */
const char *fake_reply(void);
const char *fake_emitted(void);
const char *fake_logged(void);
uint32_t fake_enters(void);          /* calls of the door */
uint32_t fake_left_outstanding(void);/* requests that the guest did not wait for */
uint32_t fake_evaluated(void);       /* tokens that the model evaluated */
uint32_t fake_forwards_max(void);    /* most forward requests in one call */
dw_sampling_options fake_sampling(void); /* of the last generation */

/* For as long as the host lives. */
uint32_t fake_sessions_open(void);
uint64_t fake_session_seed(uint32_t handle);
uint64_t fake_clock_ns(void);
/* The log of a session as text, BOS and EOS left out. Valid until the next call. */
const char *fake_log(uint32_t handle);
bool fake_holds(uint32_t handle);    /* whether a session holds the logits of its last token */
/* The next compute writes one wrong element. */
void fake_spoil_compute(void);

#endif
