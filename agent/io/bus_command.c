/* Synchronous calls, for the short-lived commands, in which no loop runs. */
#include <errno.h>
#include <stdio.h>

#include "agent/base/cleanup.h"
#include "agent/io/bus_call_internal.h"


#define _cleanup_error_ _cleanup_(sd_bus_error_free)

static int call_sync(struct bus *b, sd_bus_message *m, const char *what, const char *unit, sd_bus_message **ret,
		     struct error *err)
{
	_cleanup_error_ sd_bus_error e = SD_BUS_ERROR_NULL;
	int r = sd_bus_call(bus_sd(b), m, bus_patience(b), &e, ret);

	if (r >= 0)
		return 0;
	if (sd_bus_error_is_set(&e))
		return error_set(err, ERROR_SYSTEM, bus_error_result(&e), "%s of %s: %s", what, unit,
				 e.message ? e.message : e.name);
	return error_errno(err, r, "%s of %s", what, unit);
}

int bus_daemon_reload(struct bus *b, struct error *err)
{
	_cleanup_message_ sd_bus_message *m = NULL;
	int r = bus_manager_call(b, "Reload", &m);

	return r < 0 ? error_errno(err, r, "cannot ask systemd to reload its units") :
		       call_sync(b, m, "reload", "systemd's units", NULL, err);
}

int bus_enable_unit(struct bus *b, const char *unit_path_or_name, struct error *err)
{
	_cleanup_message_ sd_bus_message *m = NULL;
	int r = bus_manager_call(b, "EnableUnitFiles", &m);

	if (r >= 0)
		r = sd_bus_message_append(m, "asbb", 1, unit_path_or_name, 0, 1);
	return r < 0 ? error_errno(err, r, "cannot enable %s", unit_path_or_name) :
		       call_sync(b, m, "enable", unit_path_or_name, NULL, err);
}

int bus_disable_unit(struct bus *b, const char *unit, struct error *err)
{
	_cleanup_message_ sd_bus_message *m = NULL;
	int r = bus_manager_call(b, "DisableUnitFiles", &m);

	if (r >= 0)
		r = sd_bus_message_append(m, "asb", 1, unit, 0);
	return r < 0 ? error_errno(err, r, "cannot disable %s", unit) : call_sync(b, m, "disable", unit, NULL, err);
}

int bus_kill_unit(struct bus *b, const char *unit, int signo, struct error *err)
{
	_cleanup_message_ sd_bus_message *m = NULL;
	int r = bus_manager_call(b, "KillUnit", &m);

	if (r >= 0)
		r = sd_bus_message_append(m, "ssi", unit, "main", (int32_t)signo);
	return r < 0 ? error_errno(err, r, "cannot send a signal to %s", unit) :
		       call_sync(b, m, "signal", unit, NULL, err);
}

struct waiter {
	bool done;
	int result;
	struct error *err;
};

static void on_waited(const struct unit_answer *a, void *userdata)
{
	struct waiter *w = userdata;

	w->done = true;
	w->result = a->result;
	if (a->result < 0)
		(void)error_set(w->err, ERROR_SYSTEM, a->result, "%s", a->detail);
}

/* The loop is not running in these commands, so the bus is turned by hand, and the clock watched here. */
static int wait_for_job(struct bus *b, enum unit_verb verb, const char *unit, struct error *err)
{
	_cleanup_(bus_call_freep) struct bus_call *c = NULL;
	struct waiter w = { .err = err };
	usec_t limit = bus_patience(b), end = usec_add(time_boot(), limit);
	int r = unit_do(b, verb, unit, limit, on_waited, &w, &c, err);

	if (r < 0)
		return r;
	while (!w.done) {
		usec_t now = time_boot();

		if (now >= end) {
			bus_call_expire(c);
			break;
		}
		r = sd_bus_process(bus_sd(b), NULL);
		if (r == 0)
			r = sd_bus_wait(bus_sd(b), end - now);
		if (r < 0 && r != -EINTR)
			return error_errno(err, r, "%s of %s", bus_verbs[verb].word, unit);
	}
	return w.result;
}

int bus_unit_job(struct bus *b, enum unit_verb verb, const char *unit, bool wait, struct error *err)
{
	_cleanup_message_ sd_bus_message *m = NULL;
	int r;

	if (wait)
		return wait_for_job(b, verb, unit, err);
	r = bus_manager_call(b, bus_verbs[verb].method, &m);
	if (r >= 0)
		r = sd_bus_message_append(m, "ss", unit, "replace");
	return r < 0 ? error_errno(err, r, "cannot ask systemd for %s of %s", bus_verbs[verb].word, unit) :
		       call_sync(b, m, bus_verbs[verb].word, unit, NULL, err);
}

int bus_unit_state(struct bus *b, const char *unit, char load[static 64], char active[static 64], char sub[static 64],
		   struct error *err)
{
	_cleanup_message_ sd_bus_message *m = NULL, *reply = NULL;
	struct unit_properties p;
	int r = bus_get_all_call(b, unit, &m);

	if (r < 0)
		return error_errno(err, r, "cannot ask systemd for the state of %s", unit);
	r = call_sync(b, m, "state", unit, &reply, err);
	if (r < 0)
		return r;
	r = bus_read_unit(reply, &p);
	if (r < 0)
		return error_errno(err, r, "cannot read the state of %s", unit);
	(void)snprintf(load, 64, "%s", p.load);
	(void)snprintf(active, 64, "%s", p.active);
	(void)snprintf(sub, 64, "%s", p.sub);
	return 0;
}
