/* Where log messages go: the rotated file, the journal with fields, milestones on the console, stderr. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agent/base/error.h"
#include "agent/base/log.h"

struct log_file;
/* Appends to `path` (0640), rotated in process: path, path.1 … path.(max_files-1). A file that cannot be written is
 * tried again later; messages are never a reason to fail. The directory must exist. Adds itself as a sink. */
_nodiscard_ int log_file_open(const char *path, size_t max_size_bytes, unsigned max_files, enum log_level level,
			      struct log_file **ret, struct error *err);
void log_file_close(struct log_file *f);

/* The journal by its native protocol: MESSAGE, PRIORITY, SYSLOG_IDENTIFIER=evenkeel, EVENKEEL_HANDLER, EVENKEEL_EVENT_ID,
 * EVENKEEL_SEQUENCE, EVENKEEL_JOB, EVENKEEL_UNIT. A journal that does not read loses messages; it is not waited for. Static: at
 * most one, added until removed. */
void log_journal_add(enum log_level level);
void log_journal_remove(void);

/* Milestones as single lines "evenkeel: …" of at most 200 bytes, opened for each line, never blocking, dropped on trouble. */
void log_console_add(const char *device);
void log_console_remove(void);

/* "level: message" on stderr; plain adds neither level nor time (for commands whose first line a portal shows). */
void log_stderr_add(enum log_level level, bool plain);
void log_stderr_remove(void);

DEFINE_CLEANUP(struct log_file *, log_file_close)
