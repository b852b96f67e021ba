/* What operators order, and what they are shown. Arguments are words and whole numbers, made by the commands. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/core/drain_view.h"
#include "handlers/drain/drain_private.h"

#define WORDS_MAX   4
#define SECONDS_MAX (31 * 86400)

static int no_section(struct error *err)
{
	return error_set(err, ERROR_USER, -ENOTSUP,
			 "there is no drain section in the settings, so there are no steps to drain by");
}

static int order_drain(struct handler *h, const char *reason, struct buf *reply, struct error *err)
{
	int r = drain_core_hold(h->core, HOLD_OPERATOR, str_empty(reason) ? "an operator" : reason, 0, 0, drain_now(h));

	drain_after_input(h, r, "the order to drain");
	if (r == -ENOTSUP)
		return no_section(err);
	if (r < 0)
		return error_errno(err, r, "the order to drain could not be taken in");
	return buf_puts(reply, "draining; evenkeel restore ends it");
}

static int order_restore(struct handler *h, const char *argument, struct buf *reply, struct error *err)
{
	int r = drain_core_restore(h->core, str_equal(argument, "force"), drain_now(h));

	rehearsal_end(h);
	drain_after_input(h, r, "the order to restore");
	if (r < 0)
		return error_errno(err, r, "the order to restore could not be taken in");
	return buf_puts(reply, r == DRAIN_STILL_HELD
				       ? "an event still holds this VM drained; evenkeel restore --force lets go of it"
				       : "restoring what was drained");
}

static int order_acknowledge(struct handler *h, const char *event_id, struct buf *reply, struct error *err)
{
	int r = drain_core_acknowledge(h->core, event_id, drain_now(h));

	drain_after_input(h, r, "the order to acknowledge");
	if (r == -ENOENT)
		return error_set(err, ERROR_USER, r, "no event \"%s\" is known; evenkeel events names those that are",
				 event_id);
	if (r == -EALREADY)
		return error_set(err, ERROR_USER, r, "the event %s has started, or is acknowledged already", event_id);
	if (r < 0)
		return error_errno(err, r, "the order to acknowledge %s could not be taken in", event_id);
	return buf_printf(reply, "acknowledging %s", event_id);
}

/* ---- orders with numbers ---- */

/* Splits `argument` at blanks, in place; the number of words. */
static size_t split(char *argument, const char *words[static WORDS_MAX])
{
	char *save = NULL;
	size_t n = 0;

	for (char *word = strtok_r(argument, " ", &save); word && n < WORDS_MAX; word = strtok_r(NULL, " ", &save))
		words[n++] = word;
	return n;
}

static int bad_argument(struct error *err)
{
	return error_set(err, ERROR_USER, -EINVAL, "the order's argument cannot be read");
}

/* "FOR WITHIN" in seconds. */
static int order_quiesce(struct handler *h, const char *argument, struct buf *reply, struct error *err)
{
	_cleanup_free_ char *copy = strdup(argument);
	const char *words[WORDS_MAX];
	uint64_t lasts, within;
	int r;

	if (!copy)
		return error_oom(err);
	if (split(copy, words) != 2 || !str_to_u64(words[0], SECONDS_MAX, &lasts) ||
	    !str_to_u64(words[1], SECONDS_MAX, &within) || lasts == 0 || within == 0)
		return bad_argument(err);
	r = drain_core_hold(h->core, HOLD_BACKUP, NULL, usec_from_seconds(within), usec_from_seconds(lasts),
			    drain_now(h));
	drain_after_input(h, r, "the order to quiesce");
	if (r == -ENOTSUP)
		return no_section(err);
	if (r < 0)
		return error_errno(err, r, "the order to quiesce could not be taken in");
	return buf_printf(reply, "quiescing; it resumes by itself after %llu s", (unsigned long long)lasts);
}

static int order_resume(struct handler *h, struct buf *reply, struct error *err)
{
	int r = drain_core_release(h->core, HOLD_BACKUP, drain_now(h));

	drain_after_input(h, r, "the order to resume");
	if (r == -ENOENT)
		return error_set(err, ERROR_USER, r,
				 "nothing is quiesced: it was not asked for, or it has resumed by itself");
	if (r < 0)
		return error_errno(err, r, "the order to resume could not be taken in");
	return buf_puts(reply, drain_state_n_holds(drain_core_state(h->core)) > 0
				       ? "something else still holds this VM drained"
				       : "resuming");
}

/* "TYPE NOTICE DURATION [dry]": seconds, the duration "-" when unknown. */
static int order_simulate(struct handler *h, const char *argument, struct buf *reply, struct error *err)
{
	_cleanup_free_ char *copy = strdup(argument);
	const char *words[WORDS_MAX];
	uint64_t notice, lasts = 0;
	int64_t duration;
	bool dry;
	size_t n;
	int r;

	if (!copy)
		return error_oom(err);
	n = split(copy, words);
	dry = n == 4 && str_equal(words[3], "dry");
	if (n < 3 || (n == 4 && !dry) || !str_to_u64(words[1], SECONDS_MAX, &notice) ||
	    (!str_equal(words[2], "-") && !str_to_u64(words[2], SECONDS_MAX, &lasts)))
		return bad_argument(err);
	duration = str_equal(words[2], "-") ? -1 : (int64_t)lasts;
	if (dry)
		return rehearsal_dry_run(h, words[0], usec_from_seconds(notice), duration, reply, err);
	r = rehearsal_begin(h, words[0], usec_from_seconds(notice), duration, err);
	return r < 0 ? r : buf_puts(reply, "rehearsing; evenkeel restore ends it");
}

int drain_operate(struct handler *h, const char *order, const char *argument, struct buf *reply, struct error *err)
{
	if (!h->core)
		return error_set(err, ERROR_TRANSIENT, -EAGAIN, "draining is not set up yet; try again in a moment");
	if (str_equal(order, "drain"))
		return order_drain(h, argument, reply, err);
	if (str_equal(order, "restore"))
		return order_restore(h, argument, reply, err);
	if (str_equal(order, "ack"))
		return order_acknowledge(h, argument, reply, err);
	if (str_equal(order, "quiesce"))
		return order_quiesce(h, argument, reply, err);
	if (str_equal(order, "resume"))
		return order_resume(h, reply, err);
	if (str_equal(order, "simulate"))
		return order_simulate(h, argument, reply, err);
	return error_set(err, ERROR_USER, -EOPNOTSUPP, "no such order: %s", order);
}

/* ---- looking ---- */

/* Lines after number `since`; one from before a restart of ours is none of them. */
static int add_lines(const struct handler *h, int64_t since, struct drain_view *v)
{
	int64_t first = h->n_told > TOLD_MAX ? h->n_told - TOLD_MAX : 0;
	int r = 0;

	if (since < 0 || since > h->n_told)
		since = 0;
	for (int64_t i = since > first ? since : first; i < h->n_told && r >= 0; i++) {
		const struct told_line *l = &h->told[i % TOLD_MAX];

		if (l->text)
			r = drain_view_add_line(v, l->number, l->wall, log_level_name(l->level), l->text);
	}
	return r;
}

int drain_look(struct handler *h, const char *query, struct buf *json, struct error *err)
{
	struct drain_view v = { 0 };
	uint64_t since = 0;
	int r;

	if (!h->core)
		return error_set(err, ERROR_TRANSIENT, -EAGAIN, "draining is not set up yet; try again in a moment");
	if (!str_empty(query) &&
	    !(str_starts(query, "since=") && str_to_u64(query + strlen("since="), INT64_MAX, &since)))
		return error_set(err, ERROR_USER, -EINVAL, "expected nothing or since=NUMBER");
	r = drain_view_fill(h->core, h->settings, drain_now(h), &v);
	v.told = h->n_told;
	r = r < 0 ? r : str_set(&v.rehearsal, rehearsal_phase_names[h->rehearsal.phase]);
	r = r < 0 ? r : add_lines(h, (int64_t)since, &v);
	r = r < 0 ? r : jd_encode(&drain_view_type, &v, false, json);
	jd_free(&drain_view_type, &v);
	return r < 0 ? error_errno(err, r, "cannot tell what is known of draining") : 0;
}
