/* Removing many things: everything is tried, the first failure is told, the others are logged. */
#pragma once

#include "agent/base/error.h"

struct removal {
	int first;	   /* the first failure; 0: none so far */
	struct error *err; /* takes its sentence; may be NULL */
};

/* How one removal ended: `r` and, where it is negative, its sentence. */
void removal_note(struct removal *rm, int r, const struct error *e);
