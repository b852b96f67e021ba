/* The screen of `evenkeel status`, for its own files only: rows (status_screen.c), and what they say (status_rows.c). */
#pragma once

#include "agent/app/status_view.h"
#include "agent/codec/timefmt.h"

#define SCREEN_LABEL_WIDTH 13
#define SCREEN_ROW_MAX	   2048

struct message {
	char *text;
};

struct item {
	char *name, *level;
	struct message message;
};

struct body {
	char *top;
	struct message message;
	struct jd_list items; /* of struct item */
};

struct screen {
	FILE *out;
	unsigned columns;
	usec_t now;
	const struct status_view *v;
	const struct body *body; /* NULL: no document */
};

/* The first line of the text, cut where the terminal ends. `level`: a word in its colour, or NULL. */
void screen_row(const struct screen *s, const char *label, const char *level, const char *format, ...) _printf_(4, 5);
/* 0: there is none. */
usec_t screen_time(const char *time);
/* "in 9 min 24 s", "3 min 5 s ago", "now" */
const char *screen_distance(const struct screen *s, usec_t wall, char out[static 2 * TIMEFMT_MAX]);

/* status_rows.c: all rows, problems first. */
void screen_rows(const struct screen *s);
