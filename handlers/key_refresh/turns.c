/* Whose turn it is: at most KEY_PARALLEL items are at work at a time, vaults that have refused are spared, a pause keeps back. */
#include "agent/base/str.h"
#include "agent/io/loop.h"
#include "handlers/key_refresh/activate.h"
#include "handlers/key_refresh/item.h"

static size_t at_work(const struct handler *h)
{
	size_t n = 0;

	/* Who waits for others does not keep them from coming. */
	for (size_t k = 0; k < h->n; k++) {
		enum item_phase phase = h->items[k]->phase;

		n += phase != PHASE_IDLE && phase != PHASE_WAITING && phase != PHASE_TOLD;
	}
	return n;
}

/* A vault that has refused is asked by one first. */
static bool somebody_asks(const struct handler *h, const char *url)
{
	for (size_t k = 0; k < h->n; k++)
		if (h->items[k]->phase == PHASE_FETCHING && key_pace_same(key_url(&h->items[k]->plan.wish), url))
			return true;
	return false;
}

/* One secret may be named twice for the same store, as under the peer: then both write the same files, one after the other. */
static bool twin_is_at_work(const struct handler *h, const struct item *i)
{
	const struct certificate_settings *c = i->plan.wish.certificate;

	for (size_t k = 0; c && c->layout != STORE_OWN && k < h->n; k++) {
		const struct certificate_settings *other = h->items[k]->plan.wish.certificate;

		if (h->items[k] != i && h->items[k]->phase != PHASE_IDLE && other && str_equal(other->url, c->url) &&
		    str_equal(other->directory, c->directory))
			return true;
	}
	return false;
}

bool item_is_paused(const struct item *i)
{
	return handler_paused(i->h->host) && !i->ordered;
}

/* A further try waits for the end of a pause; what an earlier process of ours was in the middle of goes on. */
static usec_t way_due(const struct item *i)
{
	return item_is_paused(i) && i->later_boot != 0 ? USEC_INFINITY : activate_due(i);
}

/* When it may be asked for; USEC_INFINITY: not before something else has ended. */
static usec_t due_at(const struct handler *h, const struct item *i, usec_t now)
{
	const char *url = key_url(&i->plan.wish);

	if (i->phase != PHASE_IDLE || !key_activation_may_poll(&i->plan.record.activation) || item_is_paused(i))
		return USEC_INFINITY;
	if (i->plan.next_boot <= now && twin_is_at_work(h, i))
		return USEC_INFINITY;
	if (i->plan.next_boot <= now && key_pace_careful(&h->pace, url) && somebody_asks(h, url))
		return USEC_INFINITY;
	return usec_max(i->plan.next_boot, key_pace_until(&h->pace, url, now));
}

/* Wakes up for the next try and for a first install that is late then. The end of one that is at work comes by itself.
 */
static usec_t next_wake(const struct handler *h, usec_t now, bool room)
{
	usec_t soonest = USEC_INFINITY;

	for (size_t k = 0; k < h->n; k++) {
		const struct key_item *p = &h->items[k]->plan;

		if (room)
			soonest = usec_min(soonest, usec_min(due_at(h, h->items[k], now), way_due(h->items[k])));
		if (!key_installed(p) && p->deadline_boot > now)
			soonest = usec_min(soonest, p->deadline_boot);
	}
	return soonest;
}

/* What has been begun is gone on with first. */
static void begin_next(struct handler *h, struct item *i, usec_t now)
{
	if (i->phase == PHASE_TOLD)
		activate_commands(i);
	else if (!h->retiring && way_due(i) <= now)
		activate_go(i);
	else if (!h->retiring && due_at(h, i, now) <= now)
		item_fetch(i);
}

void key_refresh_turn(void *userdata)
{
	struct handler *h = userdata;
	usec_t now = loop_now_boot(h->host->loop), wake;

	for (size_t k = 0; k < h->n && at_work(h) < KEY_PARALLEL; k++)
		begin_next(h, h->items[k], now);
	wake = usec_min(reloads_look(h->reloads, now), hooks_look(h->hooks, now));
	if (!h->retiring)
		wake = usec_min(wake, next_wake(h, now, at_work(h) < KEY_PARALLEL));
	sweep_look(h->sweep);
	/* What has just been begun may have armed it already. */
	loop_timer_at(h->timer, usec_min(wake, loop_timer_due(h->timer)));
	h->host->changed(h->host);
}
