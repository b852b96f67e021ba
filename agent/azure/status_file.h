/* N.status files: written atomically into a folder that exists; a folder is never created. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agent/base/error.h"
#include "agent/base/macros.h"

/* Writes FOLDER/SEQUENCE.status (0644). -ENOENT: the folder is gone. */
_nodiscard_ int status_file_write(const char *folder, const char *sequence, const char *text, size_t len, struct error *err);

/* Whether success is told there, which is for ever for its number. False also when the file is not there or cannot be read. */
bool status_file_succeeded(const char *folder, const char *sequence);
