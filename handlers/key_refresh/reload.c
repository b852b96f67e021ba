/*
 * Units of renewed certificates: reloaded or restarted over D-Bus once for all who have become ready in one cycle, and only
 * if they were active before. One round at a time, one unit at a time.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/io/bus.h"
#include "agent/io/loop.h"
#include "handlers/key_refresh/activate.h"
#include "handlers/key_refresh/item.h"

/* As long those who are ready wait for others that are still being fetched or checked. */
#define GATHER_MOST (60 * USEC_PER_SEC)
#define UNITS_MAX   32 /* of one item */

struct unit {
	char *name;
	bool restart; /* one of them wants more than a reload */
	usec_t timeout;
};

struct reloads {
	struct handler *h;
	struct unit *units; /* of the round */
	size_t n, at;
	bool busy;
	struct bus_call *call;
};

static void next_unit(struct reloads *r);

/* ---- who is in the round ---- */

static bool in_round(const struct item *i)
{
	return i->phase == PHASE_WAITING && i->units;
}

static bool names(const struct item *i, const char *unit)
{
	for (char **u = i->units; u && *u; u++)
		if (str_equal(*u, unit))
			return true;
	return false;
}

static bool had_active(const struct item *i, const char *unit)
{
	const struct jd_list *active = &i->plan.record.activation.active;

	for (size_t k = 0; k < active->n; k++)
		if (str_equal(((char **)active->items)[k], unit))
			return true;
	return false;
}

/* That it was active is noted before anything is done to it: a restart that fails leaves it dead, and the former files bring
 * it back. */
static void note_active(struct reloads *r, const char *unit)
{
	for (size_t k = 0; k < r->h->n; k++) {
		struct item *i = r->h->items[k];
		struct jd_list *active = &i->plan.record.activation.active;
		char **more;

		if (!in_round(i) || !names(i, unit) || had_active(i, unit) || active->n >= UNITS_MAX)
			continue;
		more = reallocarray(active->items, active->n + 1, sizeof(*more));
		if (!more)
			continue;
		active->items = more;
		more[active->n] = strdup(unit);
		if (more[active->n]) {
			active->n++;
			(void)item_save(i, FS_REPLACE, NULL);
		}
	}
}

static bool was_active(const struct reloads *r, const char *unit)
{
	for (size_t k = 0; k < r->h->n; k++)
		if (in_round(r->h->items[k]) && names(r->h->items[k], unit) && had_active(r->h->items[k], unit))
			return true;
	return false;
}

static void note_failure(struct reloads *r, const char *unit, const char *detail)
{
	for (size_t k = 0; k < r->h->n; k++) {
		struct item *i = r->h->items[k];

		if (in_round(i) && names(i, unit) && !i->problem)
			i->problem = strdup(detail);
	}
}

/* ---- the round ---- */

static void units_free(struct reloads *r)
{
	for (size_t k = 0; k < r->n; k++)
		free(r->units[k].name);
	free(r->units);
	r->units = NULL;
	r->n = r->at = 0;
}

static void round_ended(struct reloads *r)
{
	units_free(r);
	r->busy = false;
	for (size_t k = 0; k < r->h->n; k++) {
		struct item *i = r->h->items[k];

		if (!in_round(i))
			continue;
		strv_free(TAKE_PTR(i->units));
		i->phase = PHASE_TOLD;
	}
	loop_timer_after(r->h->timer, 0);
}

static void on_done(const struct unit_answer *answer, void *userdata)
{
	struct reloads *r = userdata;
	const struct unit *u = &r->units[r->at];

	/* An operator's own job took its place: that one has the files, too. */
	if (answer->result < 0 && answer->result != -ECANCELED)
		note_failure(r, u->name, answer->detail ? answer->detail : "the unit could not be reloaded");
	else
		log_for(LOG_LEVEL_INFO, (.handler = HANDLER, .milestone = true), "%s was %s", u->name,
			u->restart ? "restarted" : "reloaded");
	r->at++;
	next_unit(r);
}

/* reloading, activating and so on are on their way to be active; what is inactive was stopped by somebody. */
static bool counts_as_active(const char *active)
{
	return str_equal(active, "active") || str_equal(active, "reloading") || str_equal(active, "refreshing") ||
	       str_equal(active, "activating");
}

static void on_state(const struct unit_state *state, void *userdata)
{
	struct reloads *r = userdata;
	const struct unit *u = &r->units[r->at];
	struct error e = ERROR_INIT;
	bool active = state->result >= 0 && counts_as_active(state->active);
	bool failed = state->result >= 0 && str_equal(state->active, "failed") && was_active(r, u->name);

	bus_call_free(TAKE_PTR(r->call));
	if (state->result < 0 && state->result != -ENOENT)
		note_failure(r, u->name, state->detail ? state->detail : "systemd could not be asked about the unit");
	if (!active && !failed) {
		r->at++;
		next_unit(r);
		return;
	}
	if (active)
		note_active(r, u->name);
	if (unit_do(r->h->host->bus, u->restart ? UNIT_RESTART : UNIT_RELOAD_OR_RESTART, u->name, u->timeout, on_done, r, &r->call,
		    &e) < 0) {
		note_failure(r, u->name, e.msg);
		r->at++;
		next_unit(r);
	}
}

static void next_unit(struct reloads *r)
{
	struct bus *bus = r->h->host->bus;
	struct error e = ERROR_INIT;

	bus_call_free(TAKE_PTR(r->call));
	for (; r->at < r->n; r->at++) {
		const struct unit *u = &r->units[r->at];

		if (!bus) {
			log_for(LOG_LEVEL_WARNING, (.handler = HANDLER),
				"%s is not reloaded: no systemd manager answers here; use activate.commands", u->name);
			continue;
		}
		if (unit_get_state(bus, u->name, on_state, r, &r->call, &e) >= 0)
			return;
		note_failure(r, u->name, e.msg);
	}
	round_ended(r);
}

/* ---- the beginning ---- */

static int add_unit(struct reloads *r, const char *name, bool restart, usec_t timeout)
{
	struct unit *more;

	for (size_t k = 0; k < r->n; k++)
		if (str_equal(r->units[k].name, name)) {
			r->units[k].restart = r->units[k].restart || restart;
			r->units[k].timeout = usec_max(r->units[k].timeout, timeout);
			return 0;
		}
	more = reallocarray(r->units, r->n + 1, sizeof(*more));
	if (!more)
		return -ENOMEM;
	r->units = more;
	more[r->n] = (struct unit){ strdup(name), restart, timeout };
	return more[r->n].name ? (r->n++, 0) : -ENOMEM;
}

static int add_list(struct reloads *r, struct item *i, const struct jd_list *list, bool restart, usec_t timeout)
{
	char *const *from = list->items;
	size_t have = strv_length(i->units);
	char **more = reallocarray(i->units, have + list->n + 1, sizeof(*more));

	if (!more)
		return -ENOMEM;
	i->units = more;
	memset(more + have, 0, (list->n + 1) * sizeof(*more));
	for (size_t k = 0; k < list->n; k++) {
		more[have + k] = strdup(from[k]);
		if (!more[have + k] || add_unit(r, from[k], restart, timeout) < 0)
			return -ENOMEM;
	}
	return 0;
}

static void add_item(struct reloads *r, struct item *i)
{
	const struct activate_settings *a = key_activate(&i->plan.wish);
	usec_t timeout = usec_from_seconds((uint64_t)a->timeout_seconds);

	free(TAKE_PTR(i->problem));
	/* It is in the round also with no unit at all. */
	if (add_list(r, i, &a->reload_units, false, timeout) < 0 || add_list(r, i, &a->restart_units, true, timeout) < 0)
		i->problem = strdup("out of memory");
}

usec_t reloads_look(struct reloads *r, usec_t now_boot)
{
	const struct handler *h = r->h;
	usec_t since = USEC_INFINITY;
	bool others = false;

	for (size_t k = 0; !r->busy && k < h->n; k++) {
		const struct item *i = h->items[k];

		if (i->phase == PHASE_WAITING)
			since = usec_min(since, i->waiting_boot);
		others = others || activate_before_reload(i) ||
			 (i->phase == PHASE_IDLE && !h->retiring && (i->ordered || !handler_paused(h->host)) &&
			  key_activation_may_poll(&i->plan.record.activation) &&
			  i->plan.next_boot <= now_boot);
	}
	if (since == USEC_INFINITY)
		return USEC_INFINITY;
	if (others && usec_add(since, GATHER_MOST) > now_boot)
		return usec_add(since, GATHER_MOST);
	r->busy = true;
	for (size_t k = 0; k < h->n; k++)
		if (h->items[k]->phase == PHASE_WAITING)
			add_item(r, h->items[k]);
	next_unit(r);
	return USEC_INFINITY;
}

int reloads_new(struct handler *h, struct reloads **ret)
{
	struct reloads *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->h = h;
	*ret = r;
	return 0;
}

void reloads_free(struct reloads *r)
{
	if (!r)
		return;
	bus_call_free(r->call);
	units_free(r);
	free(r);
}
