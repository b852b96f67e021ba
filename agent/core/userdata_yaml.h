/*
 * A reader of the part of YAML that lists of texts are written in: plain, quoted and literal or folded texts, comments. What
 * it does not read it refuses with the line, and never guesses. For userdata_archive.c.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agent/base/buf.h"
#include "agent/base/error.h"

struct yaml {
	const char *text; /* checked: UTF-8 without control characters, lines end in \n or \r\n */
	size_t len, at;
	struct error *err;
};

/* "line 3: WHY"; the code is returned. */
int yaml_refuse(struct yaml *y, int code, const char *why);
/* "WHAT is YAML that is not read here …": -EOPNOTSUPP. */
int yaml_not_read(struct yaml *y, const char *what);

char yaml_peek(const struct yaml *y);	  /* NUL at the end */
bool yaml_at_break(const struct yaml *y); /* at a line's end, or the end */
size_t yaml_column(const struct yaml *y);
void yaml_skip_to_break(struct yaml *y);
/* Over blank lines and comments, to the first character of the next line that says something. */
void yaml_skip_nothing(struct yaml *y);
/* After a value: blanks, a comment, the line's end. */
_nodiscard_ int yaml_end_line(struct yaml *y);
/* Appends a value, to the end of its last line. `parent`: the column of what it belongs to. `text`: it must be one. */
_nodiscard_ int yaml_read_value(struct yaml *y, size_t parent, bool text, struct buf *out);
