/* Jobs and states of units, awaited on the loop: each call ends once, by its answer, its job's end or its time. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/io/bus_call_internal.h"
#include "agent/io/loop.h"

struct bus_call {
	struct bus *bus;
	struct bus_call *next;
	sd_bus_slot *slot;
	struct loop_timer *timer;
	enum unit_verb verb;
	char *unit;
	char *job; /* known when the call is answered */
	unit_done_fn done;
	unit_state_fn state;
	void *userdata;
	bool ended, calling, freed;
	usec_t timeout_usec;
	char detail[400];
};

const struct bus_verb bus_verbs[] = {
	[UNIT_START] = { "StartUnit", "start" },
	[UNIT_STOP] = { "StopUnit", "stop" },
	[UNIT_RESTART] = { "RestartUnit", "restart" },
	[UNIT_RELOAD] = { "ReloadUnit", "reload" },
	[UNIT_RELOAD_OR_RESTART] = { "ReloadOrRestartUnit", "reload or restart" },
	[UNIT_TRY_RESTART] = { "TryRestartUnit", "restart" },
};

static void call_destroy(struct bus_call *c)
{
	for (struct bus_call **p = &bus_calls(c->bus)->first; *p; p = &(*p)->next)
		if (*p == c) {
			*p = c->next;
			break;
		}
	sd_bus_slot_unref(c->slot);
	loop_timer_free(c->timer);
	free(c->unit);
	free(c->job);
	free(c);
}

void bus_call_free(struct bus_call *c)
{
	if (!c)
		return;
	if (c->calling)
		c->freed = true;
	else
		call_destroy(c);
}

/* The one end of every call. */
static void answer(struct bus_call *c, int result, const struct unit_properties *p)
{
	if (c->ended)
		return;
	c->ended = true;
	c->slot = sd_bus_slot_unref(c->slot);
	if (c->timer)
		loop_timer_stop(c->timer);
	c->calling = true;
	if (c->done)
		c->done(&(struct unit_answer){ .result = result, .detail = result < 0 ? c->detail : NULL }, c->userdata);
	else
		c->state(&(struct unit_state){ .result = result,
					       .detail = result < 0 ? c->detail : NULL,
					       .load = p ? p->load : NULL,
					       .active = p ? p->active : NULL,
					       .sub = p ? p->sub : NULL,
					       .file_state = p ? p->file_state : NULL },
			 c->userdata);
	c->calling = false;
	if (c->freed)
		call_destroy(c);
}

static void answer_job(struct bus_call *c, const char *result)
{
	static const struct {
		const char *name;
		int result;
		const char *text;
	} ends[] = {
		{ "done", 0, NULL },
		{ "skipped", 0, NULL },
		{ "timeout", -ETIMEDOUT, "the unit's own time limit was reached" },
		{ "failed", -EIO, "the unit failed; its journal tells why" },
		{ "dependency", -EIO, "a unit it depends on failed" },
		{ "canceled", -ECANCELED, "another job for the unit took its place" },
		{ "assert", -EIO, "an assertion of the unit does not hold" },
		{ "unsupported", -EOPNOTSUPP, "this unit cannot do that here" },
		{ "invalid", -EOPNOTSUPP, "this unit cannot do that in its present state" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
		if (str_equal(result, ends[i].name)) {
			(void)snprintf(c->detail, sizeof(c->detail), "%s of %s: %s", bus_verbs[c->verb].word, c->unit,
				       ends[i].text ? ends[i].text : "done");
			answer(c, ends[i].result, NULL);
			return;
		}
	(void)snprintf(c->detail, sizeof(c->detail), "%s of %s ended with \"%s\"", bus_verbs[c->verb].word, c->unit, result);
	answer(c, -EIO, NULL);
}

static struct bus_call *call_of_job(struct bus_calls *calls, const char *path)
{
	for (struct bus_call *c = calls->first; c; c = c->next)
		if (!c->ended && str_equal(c->job, path))
			return c;
	return NULL;
}

/* Several calls may have become one job. What is called may free any of them, so each is looked for anew. */
void bus_calls_end_job(struct bus_calls *calls, const char *path, const char *result)
{
	struct bus_call *c;

	while ((c = call_of_job(calls, path)))
		answer_job(c, result);
}

static void answer_error(struct bus_call *c, const sd_bus_error *e, const char *what)
{
	(void)snprintf(c->detail, sizeof(c->detail), "%s of %s: %s", what, c->unit, e->message ? e->message : e->name);
	answer(c, bus_error_result(e), NULL);
}

static int on_job_queued(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct bus_call *c = userdata;
	const char *path, *result;
	int r;

	(void)error;
	if (sd_bus_message_is_method_error(m, NULL)) {
		answer_error(c, sd_bus_message_get_error(m), bus_verbs[c->verb].word);
		return 0;
	}
	r = sd_bus_message_read(m, "o", &path);
	if (r >= 0)
		r = str_set(&c->job, path);
	if (r < 0) {
		(void)snprintf(c->detail, sizeof(c->detail), "%s of %s: the answer cannot be read", bus_verbs[c->verb].word,
			       c->unit);
		answer(c, r, NULL);
		return 0;
	}
	result = bus_job_result(c->bus, c->job);
	if (result)
		answer_job(c, result);
	return 0;
}

void bus_call_expire(struct bus_call *c)
{
	(void)snprintf(c->detail, sizeof(c->detail), "%s of %s did not end within %.0f s", bus_verbs[c->verb].word, c->unit,
		       (double)c->timeout_usec / (double)USEC_PER_SEC);
	answer(c, -ETIMEDOUT, NULL);
}

static void on_timeout(void *userdata)
{
	bus_call_expire(userdata);
}

static int call_new(struct bus *b, const char *unit, void *userdata, struct bus_call **ret, struct error *err)
{
	struct bus_call *c = calloc(1, sizeof(*c));

	if (!c)
		return error_oom(err);
	c->bus = b;
	c->userdata = userdata;
	c->next = bus_calls(b)->first;
	bus_calls(b)->first = c;
	c->unit = strdup(unit);
	if (!c->unit) {
		call_destroy(c);
		return error_oom(err);
	}
	*ret = c;
	return 0;
}

int unit_do(struct bus *b, enum unit_verb verb, const char *unit, usec_t timeout_usec, unit_done_fn done,
	    void *userdata, struct bus_call **ret, struct error *err)
{
	_cleanup_(bus_call_freep) struct bus_call *c = NULL;
	_cleanup_message_ sd_bus_message *m = NULL;
	int r = call_new(b, unit, userdata, &c, err);

	if (r < 0)
		return r;
	c->verb = verb;
	c->done = done;
	c->timeout_usec = timeout_usec;
	r = loop_timer_new(bus_loop(b), "unit-job", on_timeout, c, &c->timer);
	if (r >= 0)
		r = bus_manager_call(b, bus_verbs[verb].method, &m);
	if (r >= 0)
		r = sd_bus_message_append(m, "ss", unit, "replace");
	if (r >= 0)
		r = sd_bus_call_async(bus_sd(b), &c->slot, m, on_job_queued, c, timeout_usec);
	if (r < 0)
		return error_errno(err, r, "cannot ask systemd for %s of %s", bus_verbs[verb].word, unit);
	loop_timer_after(c->timer, timeout_usec);
	*ret = TAKE_PTR(c);
	return 0;
}

static int on_state(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct bus_call *c = userdata;
	struct unit_properties p;
	int r;

	(void)error;
	if (sd_bus_message_is_method_error(m, NULL)) {
		answer_error(c, sd_bus_message_get_error(m), "state");
		return 0;
	}
	r = bus_read_unit(m, &p);
	if (r < 0)
		(void)snprintf(c->detail, sizeof(c->detail), "state of %s: the answer cannot be read", c->unit);
	answer(c, r, r < 0 ? NULL : &p);
	return 0;
}

int unit_get_state(struct bus *b, const char *unit, unit_state_fn done, void *userdata, struct bus_call **ret,
		   struct error *err)
{
	_cleanup_(bus_call_freep) struct bus_call *c = NULL;
	int r = call_new(b, unit, userdata, &c, err);

	if (r < 0)
		return r;
	c->state = done;
	r = bus_unit_get_all(b, unit, on_state, c, &c->slot);
	if (r < 0)
		return error_errno(err, r, "cannot ask systemd for the state of %s", unit);
	*ret = TAKE_PTR(c);
	return 0;
}

int unit_kill(struct bus *b, const char *unit, int signo, struct error *err)
{
	if (!bus_sd(b))
		return error_errno(err, -ENOTCONN, "cannot kill %s", unit);
	bus_manager_tell(b, "KillUnit", "ssi", unit, "all", (int32_t)signo);
	return 0;
}
