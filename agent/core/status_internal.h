/* The status model as status.c keeps it and status_document.c writes it. */
#pragma once

#include "agent/core/status.h"

struct status_item {
	char *name, *message, *headline;
	enum status_level level;
	enum duty duty;
	int code;
	bool has_output;
};

struct status_model {
	char *sequence;
	char *message;	     /* top level */
	char *first_message; /* what stands before any component has spoken */
	enum status_level top;
	int code;
	struct status_item *items;
	size_t n, cap;
	bool overflow; /* memory or limit: the round is incomplete */
};

extern const char *const status_level_names[]; /* as the platform spells them; NULL-terminated */
