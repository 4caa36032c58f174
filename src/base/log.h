/* log.h: one structured line per event on standard error: time, level, event, then key=value pairs.
 * Never guest payload or prompt text unless tracing was asked for. Thread-safe; a line is written by one write.
 * Level: DRIFTWOOD_LOG=error|warn|info|debug|trace, default warn. */
#ifndef DW_BASE_LOG_H
#define DW_BASE_LOG_H

#include <stdbool.h>
#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum dw_log_level { DW_LOG_ERROR, DW_LOG_WARN, DW_LOG_INFO, DW_LOG_DEBUG, DW_LOG_TRACE } dw_log_level;

void dw_log_set_level(dw_log_level level);
dw_status dw_log_parse_level(const char *text, dw_log_level *out) DW_MUST_USE;
bool dw_log_enabled(dw_log_level level);
/* `event` is a short constant word ("thaw"); format gives the pairs: "actor=%s tokens=%u". Control characters in the
 * result are escaped. */
void dw_log(dw_log_level level, const char *event, const char *format, ...) DW_PRINTF(3, 4);

#ifdef __cplusplus
}
#endif

#endif
