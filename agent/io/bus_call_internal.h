/* Calls of the bus. For bus*.c only. */
#pragma once

#include "agent/io/bus_internal.h"

struct bus_verb {
	const char *method, *word;
};
extern const struct bus_verb bus_verbs[];

struct bus_calls {
	struct bus_call *first;
};

struct loop *bus_loop(struct bus *b);
struct bus_calls *bus_calls(struct bus *b);

/* Ends the calls that wait for the job. */
void bus_calls_end_job(struct bus_calls *calls, const char *path, const char *result);
/* Ends the call as its time limit does. */
void bus_call_expire(struct bus_call *c);
