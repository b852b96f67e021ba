/* What was there before the first step: active units, asked for one after the other, and the number of hooks. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/io/bus.h"
#include "agent/io/paths.h"
#include "handlers/drain/drain_private.h"

static void ask_unit(struct handler *h);

void drain_count_hooks(struct handler *h, const struct drain_plan *plan, unsigned counts[static LIMIT_LEDGER])
{
	for (size_t i = 0; plan && i < plan->steps.n; i++) {
		const struct step_settings *s = &drain_plan_step(plan, i)->settings;
		_cleanup_free_ char *directory = NULL;
		_cleanup_strv_ char **names = NULL;
		struct error ignored;

		if (s->type != STEP_HOOKS)
			continue;
		directory = path_under_root(h->host->paths, s->directory);
		if (directory && fs_list(directory, LIMIT_HOOKS, &names, &ignored) >= 0)
			counts[i] = (unsigned)strv_length(names);
	}
}

static void snapshot_taken(struct handler *h)
{
	unsigned hooks[LIMIT_LEDGER] = { 0 };
	int r;

	drain_count_hooks(h, drain_core_state(h->core)->plan, hooks);
	r = drain_core_snapshot_result(h->core, h->snapshot_token, (const char *const *)h->active, hooks, drain_now(h));
	strv_free(TAKE_PTR(h->units));
	strv_free(TAKE_PTR(h->active));
	drain_after_input(h, r, "the snapshot");
}

static void on_unit_state(const struct unit_state *state, void *userdata)
{
	struct handler *h = userdata;

	bus_call_free(TAKE_PTR(h->unit_call));
	if (state->result < 0) {
		log_for(LOG_LEVEL_WARNING, (.handler = "drain", .unit = h->units[h->unit_at]), "%s; it is left alone",
			state->detail);
	} else if (str_equal(state->active, "active") || str_equal(state->active, "activating") ||
		   str_equal(state->active, "reloading")) {
		h->active[h->n_active] = strdup(h->units[h->unit_at]);
		h->n_active += h->active[h->n_active] != NULL;
	}
	h->unit_at++;
	ask_unit(h);
}

static void ask_unit(struct handler *h)
{
	struct error e = ERROR_INIT;

	while (h->units[h->unit_at]) {
		if (h->host->bus &&
		    unit_get_state(h->host->bus, h->units[h->unit_at], on_unit_state, h, &h->unit_call, &e) == 0)
			return;
		log_for(LOG_LEVEL_WARNING, (.handler = "drain", .unit = h->units[h->unit_at]), "%s; it is left alone",
			h->host->bus ? e.msg : "no systemd manager answers");
		h->unit_at++;
	}
	snapshot_taken(h);
}

static int list_units(struct handler *h)
{
	const struct drain_plan *plan = drain_core_state(h->core)->plan;
	size_t n = 0, most = 0;

	for (size_t i = 0; plan && i < plan->steps.n; i++)
		most += drain_plan_step(plan, i)->settings.units.n;
	h->units = calloc(most + 1, sizeof(*h->units));
	h->active = calloc(most + 1, sizeof(*h->active));
	if (!h->units || !h->active)
		return -ENOMEM;
	for (size_t i = 0; plan && i < plan->steps.n; i++) {
		const struct step_settings *s = &drain_plan_step(plan, i)->settings;
		char *const *names = s->units.items;

		for (size_t k = 0; s->type == STEP_STOP_UNITS && k < s->units.n; k++) {
			h->units[n] = strdup(names[k]);
			if (!h->units[n++])
				return -ENOMEM;
		}
	}
	return 0;
}

void drain_drop_snapshot(struct handler *h)
{
	bus_call_free(TAKE_PTR(h->unit_call));
	strv_free(TAKE_PTR(h->units));
	strv_free(TAKE_PTR(h->active));
	h->unit_at = h->n_active = 0;
}

void drain_take_snapshot(struct handler *h, int64_t token)
{
	static const char *const none[] = { NULL };

	h->snapshot_token = token;
	drain_drop_snapshot(h);
	if (list_units(h) == 0) {
		ask_unit(h);
		return;
	}
	log_for(LOG_LEVEL_ERROR, (.handler = "drain"), "out of memory while listing units; they are left alone");
	drain_after_input(h, drain_core_snapshot_result(h->core, token, none, NULL, drain_now(h)), "the snapshot");
}
