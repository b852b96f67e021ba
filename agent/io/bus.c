/* The connection to systemd: made, greeted, made again when it is lost; what others in io hear of it. */
#include "agent/io/bus.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/io/bus_call_internal.h"
#include "agent/io/loop.h"

#define NAME	       "org.freedesktop.systemd1"
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
	struct bus_calls calls;
	struct removed_job removed[REMOVED_JOBS];
	unsigned next_removed;
	usec_t deadline; /* of synchronous calls; 0: none */
};

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

struct loop *bus_loop(struct bus *b)
{
	return b->loop;
}

struct bus_calls *bus_calls(struct bus *b)
{
	return &b->calls;
}

const char *bus_destination(const struct bus *b)
{
	return b->private_socket ? NULL : NAME;
}

int bus_manager_call(struct bus *b, const char *method, sd_bus_message **ret)
{
	if (!b->bus)
		return -ENOTCONN;
	return sd_bus_message_new_method_call(b->bus, ret, bus_destination(b), SYSTEMD_PATH, SYSTEMD_MANAGER, method);
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

/* ---- connection ---- */

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
	bus_calls_end_job(&b->calls, path, result);
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
	r = sd_bus_match_signal(b->bus, NULL, bus_destination(b), SYSTEMD_PATH, SYSTEMD_MANAGER, "JobRemoved", on_job_removed, b);
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

void bus_set_deadline(struct bus *b, usec_t deadline_boot)
{
	b->deadline = deadline_boot;
}

usec_t bus_patience(const struct bus *b)
{
	usec_t left = b->deadline ? usec_sub(b->deadline, time_boot()) : SYNC_TIMEOUT;

	return usec_max(usec_min(left, SYNC_TIMEOUT), 1);
}

void bus_close(struct bus *b)
{
	if (!b)
		return;
	assert(!b->calls.first); /* calls hold a pointer to their bus */
	if (b->bus)
		(void)sd_bus_flush(b->bus);
	drop(b);
	loop_timer_free(b->reconnect);
	free(b);
}
