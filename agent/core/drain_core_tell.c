/* What the core says to people of the host and its steps. */
#include <errno.h>

#include "agent/base/cleanup.h"
#include "agent/core/drain_core_internal.h"

char *host_reasons(const struct drain_state *s)
{
	_cleanup_buf_ struct buf b = BUF_INIT(400);

	for (size_t i = 0; i < s->events.n; i++) {
		const struct drain_event *e = drain_state_event(s, i);

		if (event_state_holds((enum event_state)e->state))
			buf_printf(&b, "%s%s %s", b.len ? " and " : "", e->type, e->id);
	}
	for (size_t i = 0; i < s->holds.n; i++) {
		const struct drain_hold *h = drain_state_hold(s, i);

		buf_printf(&b, "%s%s%s%s", b.len ? " and " : "", hold_kind_names[h->kind], str_empty(h->reason) ? "" : ": ",
			   h->reason ? h->reason : "");
	}
	if (buf_ok(&b) == -ENOMEM)
		return NULL;
	return str_format("%s%s", buf_str(&b), buf_ok(&b) < 0 ? " and more" : "");
}

void host_tell_phase(struct turn *t, enum log_level level, enum drain_topic topic, const char *what, const char *note)
{
	_cleanup_free_ char *why = host_reasons(t->s);
	const struct drain_event *about = NULL;

	for (size_t i = 0; i < t->s->events.n && !about; i++)
		if (event_state_holds((enum event_state)drain_state_event(t->s, i)->state))
			about = drain_state_event(t->s, i);
	turn_tell(t, level, topic, about, true,
		  why ? str_format("%s%s%s%s", what, *why ? " for " : "", why, note) : NULL);
}

const char *turn_step_name(const struct turn *t, size_t i)
{
	const char *name = turn_step_at(t, i)->settings.name;

	return name ? name : step_type_names[turn_step_at(t, i)->settings.type];
}

void host_tell_step(struct turn *t, size_t i, const char *what)
{
	const char *detail = drain_state_step(t->s, i)->detail;

	turn_tell(t, LOG_LEVEL_WARNING, TOPIC_PROBLEM, NULL, false,
		  str_format("step %s %s%s%s", turn_step_name(t, i), what, detail ? ": " : "", detail ? detail : ""));
}
