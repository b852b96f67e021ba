/* The connection to systemd, and units by name. */
#include "agent/io/bus_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/io/loop.h"

#define NAME	       "org.freedesktop.systemd1"
#define PATH	       "/org/freedesktop/systemd1"
#define CALL_TIMEOUT   (25 * USEC_PER_SEC)
#define SYNC_TIMEOUT   (30 * USEC_PER_SEC)
#define HELLO_TIMEOUT  (5 * USEC_PER_SEC)
#define RECONNECT_USEC USEC_PER_SEC
#define REMOVED_JOBS   64 /* ended jobs remembered for answers still on their way */

struct removed_job {
	char path[80];
	char result[16];
};

struct bus {
	struct loop *loop;
	sd_bus *bus;
	bool private_socket;
	struct loop_timer *reconnect;
	struct bus_hook *hooks;
	struct bus_call *calls;
	struct removed_job removed[REMOVED_JOBS];
	unsigned next_removed;
	usec_t deadline; /* of synchronous calls; 0: none */
};

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

static const struct {
	const char *method, *word;
} verbs[] = {
	[UNIT_START] = { "StartUnit", "start" },
	[UNIT_STOP] = { "StopUnit", "stop" },
	[UNIT_RESTART] = { "RestartUnit", "restart" },
	[UNIT_RELOAD] = { "ReloadUnit", "reload" },
	[UNIT_RELOAD_OR_RESTART] = { "ReloadOrRestartUnit", "reload or restart" },
	[UNIT_TRY_RESTART] = { "TryRestartUnit", "restart" },
};

static void answer_job(struct bus_call *c, const char *result);

/* ---- what others in io need ---- */

void bus_add_hook(struct bus *b, struct bus_hook *hook)
{
	hook->next = b->hooks;
	b->hooks = hook;
}

void bus_remove_hook(struct bus *b, struct bus_hook *hook)
{
	for (struct bus_hook **p = &b->hooks; *p; p = &(*p)->next)
		if (*p == hook) {
			*p = hook->next;
			return;
		}
}

sd_bus *bus_sd(struct bus *b)
{
	return b->bus;
}

const char *bus_destination(const struct bus *b)
{
	return b->private_socket ? NULL : NAME;
}

int bus_manager_call(struct bus *b, const char *method, sd_bus_message **ret)
{
	if (!b->bus)
		return -ENOTCONN;
	return sd_bus_message_new_method_call(b->bus, ret, bus_destination(b), PATH, SYSTEMD_MANAGER, method);
}

void bus_manager_tell(struct bus *b, const char *method, const char *types, ...)
{
	_cleanup_message_ sd_bus_message *m = NULL;
	va_list ap;
	int r = bus_manager_call(b, method, &m);

	va_start(ap, types);
	if (r >= 0 && types)
		r = sd_bus_message_appendv(m, types, ap);
	va_end(ap);
	if (r >= 0)
		(void)sd_bus_call_async(b->bus, NULL, m, NULL, NULL, 0);
}

const char *bus_job_result(const struct bus *b, const char *path)
{
	for (size_t i = 0; i < REMOVED_JOBS; i++)
		if (str_equal(b->removed[i].path, path))
			return b->removed[i].result;
	return NULL;
}

int bus_error_result(const sd_bus_error *e)
{
	static const struct {
		const char *name;
		int result;
	} known[] = {
		{ "org.freedesktop.systemd1.NoSuchUnit", -ENOENT },
		{ "org.freedesktop.systemd1.UnitMasked", -EACCES },
		{ "org.freedesktop.systemd1.UnitExists", -EEXIST },
		{ "org.freedesktop.systemd1.JobTypeNotApplicable", -EOPNOTSUPP },
		{ "org.freedesktop.systemd1.OnlyByDependency", -EACCES },
		{ "org.freedesktop.systemd1.LoadFailed", -EIO },
		{ "org.freedesktop.systemd1.BadUnitSetting", -EIO },
		{ "org.freedesktop.DBus.Error.NoReply", -ETIMEDOUT },
		{ "org.freedesktop.DBus.Error.Timeout", -ETIMEDOUT },
		{ "org.freedesktop.DBus.Error.Disconnected", -ENOTCONN },
	};
	int r;

	if (!e)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (str_equal(e->name, known[i].name))
			return known[i].result;
	r = sd_bus_error_get_errno(e);
	return r > 0 ? -r : -EIO;
}

/* ---- connection ---- */

static struct bus_call *call_of_job(struct bus *b, const char *path)
{
	for (struct bus_call *c = b->calls; c; c = c->next)
		if (!c->ended && str_equal(c->job, path))
			return c;
	return NULL;
}

/* Several calls may have become one job. What is called may free any of them, so each is looked for anew. */
static void end_job(struct bus *b, const char *path, const char *result)
{
	struct bus_call *c;

	while ((c = call_of_job(b, path)))
		answer_job(c, result);
}

static int on_job_removed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct bus *b = userdata;
	const char *path, *unit, *result;
	struct removed_job *slot;
	uint32_t id;

	(void)error;
	if (sd_bus_message_read(m, "uoss", &id, &path, &unit, &result) < 0)
		return 0;
	slot = &b->removed[b->next_removed++ % REMOVED_JOBS];
	(void)snprintf(slot->path, sizeof(slot->path), "%s", path);
	(void)snprintf(slot->result, sizeof(slot->result), "%s", result);
	end_job(b, path, result);
	for (struct bus_hook *h = b->hooks, *next; h; h = next) {
		next = h->next;
		if (h->job_removed)
			h->job_removed(path, result, h->userdata);
	}
	return 0;
}

static int on_disconnected(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct bus *b = userdata;

	(void)m;
	(void)error;
	loop_timer_after(b->reconnect, 0);
	return 0;
}

/* Greetings and authentication: libsystemd itself would wait for these for 90 s, longer than our start may take and our watchdog
 * stays calm. */
static int await_ready(sd_bus *bus)
{
	usec_t end = usec_add(time_boot(), HELLO_TIMEOUT);

	for (;;) {
		usec_t now = time_boot();
		int r = sd_bus_is_ready(bus);

		if (r != 0)
			return r < 0 ? r : 0;
		r = sd_bus_process(bus, NULL);
		if (r == 0 && now >= end)
			return -ETIMEDOUT;
		if (r == 0)
			r = sd_bus_wait(bus, end - now);
		if (r < 0 && r != -EINTR)
			return r;
	}
}

/* The manager must answer: in a container there may be a bus, or a socket, and no systemd behind it. */
static int greet(struct bus *b)
{
	_cleanup_message_ sd_bus_message *m = NULL;
	int r = bus_manager_call(b, "Subscribe", &m);

	if (r < 0)
		return r;
	r = sd_bus_match_signal(b->bus, NULL, bus_destination(b), PATH, SYSTEMD_MANAGER, "JobRemoved", on_job_removed, b);
	if (r < 0)
		return r;
	r = sd_bus_match_signal(b->bus, NULL, "org.freedesktop.DBus.Local", "/org/freedesktop/DBus/Local",
				"org.freedesktop.DBus.Local", "Disconnected", on_disconnected, b);
	if (r < 0)
		return r;
	return sd_bus_call(b->bus, m, HELLO_TIMEOUT, NULL, NULL);
}

static void drop(struct bus *b)
{
	if (b->bus) {
		(void)sd_bus_detach_event(b->bus);
		b->bus = sd_bus_close_unref(b->bus);
	}
}

static int open_private(sd_bus **ret)
{
	sd_bus *bus = NULL;
	int r = sd_bus_new(&bus);

	if (r >= 0)
		r = sd_bus_set_address(bus, "unix:path=/run/systemd/private");
	if (r >= 0)
		r = sd_bus_start(bus);
	if (r < 0) {
		sd_bus_unref(bus);
		return r;
	}
	*ret = bus;
	return 0;
}

static int try_connect(struct bus *b, bool private_socket)
{
	int r;

	b->private_socket = private_socket;
	r = private_socket ? open_private(&b->bus) : sd_bus_open_system(&b->bus);
	if (r >= 0)
		r = await_ready(b->bus);
	if (r >= 0)
		r = greet(b);
	if (r >= 0)
		r = sd_bus_attach_event(b->bus, loop_sd_event(b->loop), 0);
	if (r < 0)
		drop(b);
	return r;
}

/* The private socket is not a promise of systemd's, but systemctl itself goes there when the bus is down. */
static int connect_any(struct bus *b)
{
	int r = try_connect(b, false);

	return r < 0 && try_connect(b, true) >= 0 ? 0 : r;
}

static void on_reconnect(void *userdata)
{
	struct bus *b = userdata;

	drop(b);
	if (connect_any(b) < 0) {
		loop_timer_after(b->reconnect, RECONNECT_USEC);
		return;
	}
	for (struct bus_hook *h = b->hooks, *next; h; h = next) {
		next = h->next;
		if (h->reconnected)
			h->reconnected(h->userdata);
	}
}

/* Tests, demos and rehearsals under a root of their own must not start units of the machine they run on. */
static bool is_allowed(void)
{
	return str_empty(getenv("EVENKEEL_ROOT")) || str_equal(getenv("EVENKEEL_SYSTEMD"), "1");
}

int bus_open(struct bus **ret, struct loop *loop, struct error *err)
{
	_cleanup_(bus_closep) struct bus *b = NULL;
	int r;

	if (!is_allowed())
		return error_set(err, ERROR_SYSTEM, -ENOENT, "systemd is not asked below EVENKEEL_ROOT");
	if (sd_booted() <= 0)
		return error_set(err, ERROR_SYSTEM, -ENOENT, "systemd does not run this machine");
	b = calloc(1, sizeof(*b));
	if (!b)
		return error_oom(err);
	b->loop = loop;
	r = loop_timer_new(loop, "bus-reconnect", on_reconnect, b, &b->reconnect);
	if (r < 0)
		return error_errno(err, r, "cannot watch the system bus");
	r = connect_any(b);
	if (r < 0)
		return error_errno(err, r == -ENOENT ? -ENOTCONN : r, "cannot reach systemd, neither by the system bus nor by its own socket");
	*ret = TAKE_PTR(b);
	return 0;
}

void bus_close(struct bus *b)
{
	if (!b)
		return;
	assert(!b->calls); /* calls hold a pointer to their bus */
	if (b->bus)
		(void)sd_bus_flush(b->bus);
	drop(b);
	loop_timer_free(b->reconnect);
	free(b);
}

/* ---- calls ---- */

static void call_destroy(struct bus_call *c)
{
	for (struct bus_call **p = &c->bus->calls; *p; p = &(*p)->next)
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
			(void)snprintf(c->detail, sizeof(c->detail), "%s of %s: %s", verbs[c->verb].word, c->unit,
				       ends[i].text ? ends[i].text : "done");
			answer(c, ends[i].result, NULL);
			return;
		}
	(void)snprintf(c->detail, sizeof(c->detail), "%s of %s ended with \"%s\"", verbs[c->verb].word, c->unit, result);
	answer(c, -EIO, NULL);
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
		answer_error(c, sd_bus_message_get_error(m), verbs[c->verb].word);
		return 0;
	}
	r = sd_bus_message_read(m, "o", &path);
	if (r >= 0)
		r = str_set(&c->job, path);
	if (r < 0) {
		(void)snprintf(c->detail, sizeof(c->detail), "%s of %s: the answer cannot be read", verbs[c->verb].word,
			       c->unit);
		answer(c, r, NULL);
		return 0;
	}
	result = bus_job_result(c->bus, c->job);
	if (result)
		answer_job(c, result);
	return 0;
}

static void on_timeout(void *userdata)
{
	struct bus_call *c = userdata;

	(void)snprintf(c->detail, sizeof(c->detail), "%s of %s did not end within %.0f s", verbs[c->verb].word, c->unit,
		       (double)c->timeout_usec / (double)USEC_PER_SEC);
	answer(c, -ETIMEDOUT, NULL);
}

static int call_new(struct bus *b, const char *unit, void *userdata, struct bus_call **ret, struct error *err)
{
	struct bus_call *c = calloc(1, sizeof(*c));

	if (!c)
		return error_oom(err);
	c->bus = b;
	c->userdata = userdata;
	c->next = b->calls;
	b->calls = c;
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
	r = loop_timer_new(b->loop, "unit-job", on_timeout, c, &c->timer);
	if (r >= 0)
		r = bus_manager_call(b, verbs[verb].method, &m);
	if (r >= 0)
		r = sd_bus_message_append(m, "ss", unit, "replace");
	if (r >= 0)
		r = sd_bus_call_async(b->bus, &c->slot, m, on_job_queued, c, timeout_usec);
	if (r < 0)
		return error_errno(err, r, "cannot ask systemd for %s of %s", verbs[verb].word, unit);
	loop_timer_after(c->timer, timeout_usec);
	*ret = TAKE_PTR(c);
	return 0;
}

static int read_property(sd_bus_message *m, struct unit_properties *p)
{
	static const struct {
		const char *name;
		size_t offset;
	} texts[] = {
		{ "LoadState", offsetof(struct unit_properties, load) },
		{ "ActiveState", offsetof(struct unit_properties, active) },
		{ "SubState", offsetof(struct unit_properties, sub) },
		{ "UnitFileState", offsetof(struct unit_properties, file_state) },
		{ "Result", offsetof(struct unit_properties, result) },
	};
	const char *name, *text;
	int32_t number = 0;
	int r = sd_bus_message_read(m, "s", &name);

	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (str_equal(name, texts[i].name)) {
			r = sd_bus_message_read(m, "v", "s", &text);
			if (r >= 0)
				(void)snprintf((char *)p + texts[i].offset, sizeof(p->load), "%s", text);
			return r;
		}
	if (!str_equal(name, "ExecMainCode") && !str_equal(name, "ExecMainStatus"))
		return sd_bus_message_skip(m, "v");
	r = sd_bus_message_read(m, "v", "i", &number);
	if (str_equal(name, "ExecMainCode"))
		p->main_code = number;
	else
		p->main_status = number;
	return r;
}

int bus_read_unit(sd_bus_message *m, struct unit_properties *ret)
{
	struct unit_properties p = { 0 };
	int r = sd_bus_message_enter_container(m, 'a', "{sv}");

	while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
		r = read_property(m, &p);
		if (r >= 0)
			r = sd_bus_message_exit_container(m);
	}
	if (r < 0)
		return r;
	*ret = p;
	return 0;
}

/* All properties of all interfaces in one call: one at a time they may be of different moments. */
static int get_all_call(struct bus *b, const char *unit, sd_bus_message **ret)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_message_ sd_bus_message *m = NULL;
	int r;

	if (!b->bus)
		return -ENOTCONN;
	r = sd_bus_path_encode(PATH "/unit", unit, &path);
	if (r >= 0)
		r = sd_bus_message_new_method_call(b->bus, &m, bus_destination(b), path,
						   "org.freedesktop.DBus.Properties", "GetAll");
	if (r >= 0)
		r = sd_bus_message_append(m, "s", "");
	if (r < 0)
		return r;
	*ret = TAKE_PTR(m);
	return 0;
}

int bus_unit_get_all(struct bus *b, const char *unit, sd_bus_message_handler_t fn, void *userdata, sd_bus_slot **ret)
{
	_cleanup_message_ sd_bus_message *m = NULL;
	int r = get_all_call(b, unit, &m);

	return r < 0 ? r : sd_bus_call_async(b->bus, ret, m, fn, userdata, CALL_TIMEOUT);
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
	if (!b->bus)
		return error_errno(err, -ENOTCONN, "cannot kill %s", unit);
	bus_manager_tell(b, "KillUnit", "ssi", unit, "all", (int32_t)signo);
	return 0;
}

/* ---- synchronous, for commands ---- */

#define _cleanup_error_ _cleanup_(sd_bus_error_free)

void bus_set_deadline(struct bus *b, usec_t deadline_boot)
{
	b->deadline = deadline_boot;
}

/* How long a call may take. Never 0, which libsystemd takes for its own default. */
static usec_t patience(const struct bus *b)
{
	usec_t left = b->deadline ? usec_sub(b->deadline, time_boot()) : SYNC_TIMEOUT;

	return usec_max(usec_min(left, SYNC_TIMEOUT), 1);
}

static int call_sync(struct bus *b, sd_bus_message *m, const char *what, const char *unit, sd_bus_message **ret,
		     struct error *err)
{
	_cleanup_error_ sd_bus_error e = SD_BUS_ERROR_NULL;
	int r = sd_bus_call(b->bus, m, patience(b), &e, ret);

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
	usec_t limit = patience(b), end = usec_add(time_boot(), limit);
	int r = unit_do(b, verb, unit, limit, on_waited, &w, &c, err);

	if (r < 0)
		return r;
	while (!w.done) {
		usec_t now = time_boot();

		if (now >= end) {
			on_timeout(c);
			break;
		}
		r = sd_bus_process(b->bus, NULL);
		if (r == 0)
			r = sd_bus_wait(b->bus, end - now);
		if (r < 0 && r != -EINTR)
			return error_errno(err, r, "%s of %s", verbs[verb].word, unit);
	}
	return w.result;
}

int bus_unit_job(struct bus *b, enum unit_verb verb, const char *unit, bool wait, struct error *err)
{
	_cleanup_message_ sd_bus_message *m = NULL;
	int r;

	if (wait)
		return wait_for_job(b, verb, unit, err);
	r = bus_manager_call(b, verbs[verb].method, &m);
	if (r >= 0)
		r = sd_bus_message_append(m, "ss", unit, "replace");
	return r < 0 ? error_errno(err, r, "cannot ask systemd for %s of %s", verbs[verb].word, unit) :
		       call_sync(b, m, verbs[verb].word, unit, NULL, err);
}

int bus_unit_state(struct bus *b, const char *unit, char load[static 64], char active[static 64], char sub[static 64],
		   struct error *err)
{
	_cleanup_message_ sd_bus_message *m = NULL, *reply = NULL;
	struct unit_properties p;
	int r = get_all_call(b, unit, &m);

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
