/* base: what every module uses. No system calls, no other module, no state but the log level.
 * status.h  statuses, error detail        limits.h  every bound            checked.h  overflow-free sizes
 * bytes.h   bounded reader, writer        handle.h  generation-checked     hash.h     SHA-256       log.h  events
 * plain.h  text for a terminal */
#ifndef DW_BASE_BASE_H
#define DW_BASE_BASE_H

#include "base/bytes.h"
#include "base/checked.h"
#include "base/handle.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/plain.h"
#include "base/status.h"
#include "base/vec.h"

#endif
