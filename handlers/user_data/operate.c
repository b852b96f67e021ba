/* What is told of user data, and what an operator may order. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/core/exit_codes.h"
#include "agent/core/metrics.h"
#include "agent/core/settings_common.h"
#include "agent/io/loop.h"
#include "handlers/user_data/userdata_private.h"

static const char *const actions[] = { [USERDATA_REPORT] = "report", [USERDATA_APPLY] = "apply" };
static const char *const sources[] = { [USERDATA_IMDS] = "userData", [USERDATA_CUSTOM_DATA] = "customData" };

/* ---- the component ---- */

static enum status_level describe(const struct handler *h, struct buf *out, int *ret_code)
{
	struct userdata_progress p = h->progress;
	usec_t now = loop_now_boot(h->host->loop);
	enum status_level level;

	p.settings_problem = h->settings_problem;
	if (p.phase == USERDATA_DELAYED)
		p.next_boot = h->try_at;
	level = userdata_describe(&h->plan, h->section, now, loop_now_wall(h->host->loop), out, ret_code);
	return userdata_tell(&h->memory, h->section, userdata_content(h), &p, level, now, out, ret_code);
}

/* For health.readyAfter: something has been applied once on this machine, or there is nothing to apply. */
static enum duty duty_of(const struct handler *h)
{
	if (h->section->action != USERDATA_APPLY || h->memory.applied || h->plan.unset)
		return DUTY_DONE;
	return h->memory.failed ? DUTY_FAILED : DUTY_OPEN;
}

int userdata_report(struct handler *h, handler_report_fn add, void *userdata)
{
	_cleanup_buf_ struct buf message = BUF_INIT(16 * LIMIT_STATUS_MESSAGE);
	struct component c = { .name = HANDLER };

	if (!h->section)
		return 0;
	c.level = describe(h, &message, &c.code);
	if (buf_ok(&message) < 0)
		return buf_ok(&message);
	if (c.level == STATUS_SUCCESS || c.level == STATUS_TRANSITIONING)
		c.code = CODE_NONE;
	c.duty = duty_of(h);
	c.message = buf_str(&message);
	return add(userdata, &c);
}

void userdata_measure(const struct handler *h, struct metrics *m)
{
	const char *const pointers[][2] = { { h->plan.record.sha256, "seen" },
					    { h->memory.applied, "applied" },
					    { h->memory.failed, "failed" } };

	for (size_t i = 0; h->section && i < ARRAY_SIZE(pointers); i++) {
		_cleanup_free_ char *revision =
			pointers[i][0] ? strndup(pointers[i][0], USERDATA_REVISION_CHARS) : NULL;

		if (revision)
			metrics_put(m, METRIC_USER_DATA_REVISION, 1, revision, pointers[i][1]);
	}
	if (h->section && h->plan.record.confirmed_usec)
		metrics_put(m, METRIC_USER_DATA_CHECKED, (double)h->plan.record.confirmed_usec / (double)USEC_PER_SEC,
			    NULL, NULL);
}

/* ---- looking on ---- */

int userdata_look(struct handler *h, const char *query, struct buf *json, struct error *err)
{
	_cleanup_buf_ struct buf message = BUF_INIT(16 * LIMIT_STATUS_MESSAGE);
	struct userdata_view v = { .watch = h->plan.record, .memory = h->memory };
	int code = CODE_NONE;

	(void)query;
	if (h->section) {
		v.level = (char *)(uintptr_t)status_level_name(describe(h, &message, &code));
		v.message = message.data;
		v.action = (char *)(uintptr_t)actions[h->section->action];
		v.source = (char *)(uintptr_t)sources[h->section->source];
	}
	if (buf_ok(&message) < 0 || jd_encode(&userdata_view_type, &v, false, json) < 0)
		return error_oom(err);
	return buf_puts(json, "\n");
}

/* ---- orders ---- */

/* The revision that an order is about: what is there now. */
static int find_revision(struct handler *h, const char *argument, struct userdata_revision **ret, struct error *err)
{
	const char *sha256 = userdata_content(h);

	if (!h->section)
		return error_set(err, ERROR_USER, -ENOENT,
				 "no settings have a userData section, so nothing is known of user data");
	if (!sha256)
		return error_set(err, ERROR_USER, -ENOENT, "there is no user data");
	if (!str_empty(argument) && (strlen(argument) < 4 || !str_starts(sha256, argument)))
		return error_set(err, ERROR_USER, -ESTALE, "\"%.64s\" is not what is there now: revision %.*s",
				 argument, USERDATA_REVISION_CHARS, sha256);
	*ret = userdata_memory_find(&h->memory, sha256);
	if (*ret && (*ret)->state == USERDATA_RUNNING)
		return error_set(err, ERROR_USER, -EBUSY, "revision %.*s is being applied right now",
				 USERDATA_REVISION_CHARS, sha256);
	return 0;
}

static int settle(struct handler *h, struct userdata_revision *r, enum userdata_state state, struct error *err)
{
	int former = r->state, k;
	bool ordered = r->ordered;

	r->state = (int)state;
	r->ordered = state == USERDATA_PENDING;
	k = userdata_save(h, err);
	if (k < 0) {
		r->state = former;
		r->ordered = ordered;
	}
	return k;
}

/* What is kept back by a pause, in the middle of a revision or before its first part: an order goes through. */
static struct userdata_revision *paused_revision(struct handler *h, const char *argument)
{
	struct userdata_revision *r = userdata_memory_running(&h->memory);

	if (!r || h->progress.phase != USERDATA_PAUSED || !handler_paused(h->host))
		return NULL;
	return str_empty(argument) || (strlen(argument) >= 4 && str_starts(r->sha256, argument)) ? r : NULL;
}

static int let_through(struct handler *h, struct userdata_revision *r, struct buf *reply, struct error *err)
{
	int k;

	r->ordered = true;
	k = userdata_save(h, err);
	if (k < 0) {
		r->ordered = false;
		return k;
	}
	userdata_apply_soon(h);
	return buf_printf(reply, "Revision %.*s goes on in spite of the pause; see: evenkeel userdata",
			  USERDATA_REVISION_CHARS, r->sha256);
}

int userdata_operate(struct handler *h, const char *order, const char *argument, struct buf *reply, struct error *err)
{
	bool apply = str_equal(order, "apply");
	enum userdata_state state = apply ? USERDATA_PENDING : USERDATA_IGNORED;
	struct userdata_revision *r;
	int k;

	if (!apply && !str_equal(order, "ignore"))
		return error_set(err, ERROR_USER, -EINVAL, "no such order");
	r = apply ? paused_revision(h, argument) : NULL;
	if (r)
		return let_through(h, r, reply, err);
	k = find_revision(h, argument, &r, err);
	if (k < 0)
		return k;
	if (!r && !userdata_note(h, state))
		return error_set(err, ERROR_SYSTEM, -EIO, "the order could not be recorded");
	r = userdata_memory_find(&h->memory, userdata_content(h));
	k = settle(h, r, state, err);
	if (k < 0)
		return k;
	log_for(LOG_LEVEL_INFO, (.handler = HANDLER), "an operator orders: %s revision %.*s", order,
		USERDATA_REVISION_CHARS, r->sha256);
	(void)buf_printf(reply,
			 apply ? "Revision %.*s is applied as soon as nothing is in its way; see: evenkeel userdata"
			       : "Revision %.*s is ignored",
			 USERDATA_REVISION_CHARS, r->sha256);
	h->host->changed(h->host);
	userdata_apply_soon(h);
	return 0;
}
