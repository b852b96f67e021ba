/* logind over sd-bus: Inhibit, PrepareForShutdown, and two properties. */
#include "agent/io/inhibitor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/io/bus_internal.h"
#include "agent/io/loop.h"

#define NAME	    "org.freedesktop.login1"
#define PATH	    "/org/freedesktop/login1"
#define MANAGER	    "org.freedesktop.login1.Manager"
#define AGAIN_USEC  (10 * USEC_PER_SEC)
#define TROUBLE_MAX 300

struct inhibitor {
	struct bus *bus;
	struct bus_hook hook;
	const struct inhibitor_client *client;
	void *userdata;
	char *why;
	struct loop_timer *again;
	sd_bus_slot *match, *owner, *inhibit, *delay, *preparing;
	int fd; /* -1: not held */
	bool let_go;
	usec_t max_delay;
	char trouble[TROUBLE_MAX];
};

static void set_trouble(struct inhibitor *i, const char *what, const char *detail)
{
	(void)snprintf(i->trouble, sizeof(i->trouble), "%s%s%s", what, str_empty(detail) ? "" : ": ",
		       detail ? detail : "");
	i->client->changed(i->userdata);
}

static const char *error_text(const sd_bus_error *e)
{
	return !e ? "" : e->message ? e->message : e->name;
}

static void drop_fd(struct inhibitor *i)
{
	if (i->fd >= 0)
		close(i->fd);
	i->fd = -1;
}

/* ---- taking it ---- */

static int on_inhibited(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct inhibitor *i = userdata;
	int fd = -1, r;

	(void)error;
	i->inhibit = sd_bus_slot_unref(i->inhibit);
	if (sd_bus_message_is_method_error(m, NULL)) {
		loop_timer_after(i->again, AGAIN_USEC);
		set_trouble(i, "logind refuses the inhibitor", error_text(sd_bus_message_get_error(m)));
		return 0;
	}
	/* The message owns its file descriptor. */
	r = sd_bus_message_read(m, "h", &fd);
	if (r >= 0)
		fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (r < 0 || fd < 0) {
		loop_timer_after(i->again, AGAIN_USEC);
		set_trouble(i, "logind's inhibitor cannot be kept", strerror(r < 0 ? -r : errno));
		return 0;
	}
	drop_fd(i);
	i->fd = fd;
	i->trouble[0] = '\0';
	i->client->changed(i->userdata);
	return 0;
}

static void take(struct inhibitor *i)
{
	sd_bus *bus = bus_sd(i->bus);
	int r;

	if (i->fd >= 0 || i->inhibit || i->let_go)
		return;
	if (!bus || !bus_destination(i->bus)) {
		loop_timer_after(i->again, AGAIN_USEC);
		set_trouble(i, "the system bus does not answer", NULL);
		return;
	}
	r = sd_bus_call_method_async(bus, &i->inhibit, NAME, PATH, MANAGER, "Inhibit", on_inhibited, i, "ssss",
				     "shutdown", "EvenKeel", i->why, "delay");
	if (r < 0) {
		loop_timer_after(i->again, AGAIN_USEC);
		set_trouble(i, "logind cannot be asked", strerror(-r));
	}
}

/* ---- what it says ---- */

static int on_delay(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct inhibitor *i = userdata;
	uint64_t usec = 0;

	(void)error;
	i->delay = sd_bus_slot_unref(i->delay);
	if (sd_bus_message_is_method_error(m, NULL) || sd_bus_message_read(m, "v", "t", &usec) < 0)
		return 0;
	i->max_delay = usec;
	i->client->changed(i->userdata);
	return 0;
}

static void tell_shutdown(struct inhibitor *i, bool preparing)
{
	if (!preparing)
		i->let_go = false;
	i->client->shutdown(i->userdata, preparing);
}

static int on_preparing(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct inhibitor *i = userdata;
	int preparing = 0;

	(void)error;
	i->preparing = sd_bus_slot_unref(i->preparing);
	if (sd_bus_message_is_method_error(m, NULL) || sd_bus_message_read(m, "v", "b", &preparing) < 0)
		return 0;
	tell_shutdown(i, preparing);
	return 0;
}

static int on_prepare(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct inhibitor *i = userdata;
	int preparing = 0;

	(void)error;
	if (sd_bus_message_read(m, "b", &preparing) < 0)
		return 0;
	tell_shutdown(i, preparing);
	if (!preparing)
		take(i);
	return 0;
}

static int ask(struct inhibitor *i, const char *property, sd_bus_message_handler_t fn, sd_bus_slot **slot)
{
	sd_bus *bus = bus_sd(i->bus);

	*slot = sd_bus_slot_unref(*slot);
	if (!bus || !bus_destination(i->bus))
		return -ENOTCONN;
	return sd_bus_call_method_async(bus, slot, NAME, PATH, "org.freedesktop.DBus.Properties", "Get", fn, i, "ss",
					MANAGER, property);
}

void inhibitor_ask_again(struct inhibitor *i)
{
	(void)ask(i, "InhibitDelayMaxUSec", on_delay, &i->delay);
}

/* A logind that was replaced keeps inhibitors; one that crashed may not, and one that was not there has none of ours. */
static int on_owner(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct inhibitor *i = userdata;
	const char *name, *from, *to;

	(void)error;
	if (sd_bus_message_read(m, "sss", &name, &from, &to) < 0 || str_empty(to))
		return 0;
	inhibitor_ask_again(i);
	take(i);
	return 0;
}

static void listen_and_take(struct inhibitor *i)
{
	sd_bus *bus = bus_sd(i->bus);

	i->match = sd_bus_slot_unref(i->match);
	i->owner = sd_bus_slot_unref(i->owner);
	i->inhibit = sd_bus_slot_unref(i->inhibit);
	if (bus && bus_destination(i->bus)) {
		(void)sd_bus_match_signal_async(bus, &i->match, NAME, PATH, MANAGER, "PrepareForShutdown", on_prepare,
						NULL, i);
		(void)sd_bus_add_match_async(bus, &i->owner,
					     "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',"
					     "interface='org.freedesktop.DBus',arg0='" NAME "'",
					     on_owner, NULL, i);
		(void)ask(i, "PreparingForShutdown", on_preparing, &i->preparing);
		inhibitor_ask_again(i);
	}
	take(i);
}

static void on_reconnected(void *userdata)
{
	listen_and_take(userdata);
}

static void on_again(void *userdata)
{
	struct inhibitor *i = userdata;

	inhibitor_ask_again(i);
	take(i);
}

/* ---- in and out ---- */

void inhibitor_let_go(struct inhibitor *i)
{
	i->let_go = true;
	drop_fd(i);
}

usec_t inhibitor_max_delay(const struct inhibitor *i)
{
	return i->max_delay;
}

const char *inhibitor_trouble(const struct inhibitor *i)
{
	return i->fd >= 0 || i->let_go ? "" : i->trouble;
}

int inhibitor_new(struct bus *bus, struct loop *loop, const char *why, const struct inhibitor_client *client,
		  void *userdata, struct inhibitor **ret, struct error *err)
{
	struct inhibitor *i = calloc(1, sizeof(*i));

	if (!i)
		return error_oom(err);
	*i = (struct inhibitor){ .bus = bus, .client = client, .userdata = userdata, .fd = -1 };
	i->hook = (struct bus_hook){ .reconnected = on_reconnected, .userdata = i };
	bus_add_hook(bus, &i->hook);
	i->why = strdup(why);
	if (!i->why || loop_timer_new(loop, "inhibitor", on_again, i, &i->again) < 0) {
		inhibitor_free(i);
		return error_oom(err);
	}
	*ret = i;
	listen_and_take(i);
	return 0;
}

void inhibitor_free(struct inhibitor *i)
{
	if (!i)
		return;
	bus_remove_hook(i->bus, &i->hook);
	sd_bus_slot_unref(i->match);
	sd_bus_slot_unref(i->owner);
	sd_bus_slot_unref(i->inhibit);
	sd_bus_slot_unref(i->delay);
	sd_bus_slot_unref(i->preparing);
	loop_timer_free(i->again);
	drop_fd(i);
	free(i->why);
	free(i);
}
