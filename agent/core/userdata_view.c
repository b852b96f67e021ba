/* Sentences about applying user data. */
#include "agent/core/userdata_view.h"

#include <inttypes.h>
#include <string.h>

#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/timefmt.h"
#include "agent/core/exit_codes.h"
#include "agent/core/settings_common.h"

#define PARTS_TOLD 24

static const struct jd_type text_type = { .kind = JD_TEXT };
/* clang-format off */
static const struct jd_field view_fields[] = {
	{ "action",  &text_type, offsetof(struct userdata_view, action),  0 },
	{ "source",  &text_type, offsetof(struct userdata_view, source),  0 },
	{ "level",   &text_type, offsetof(struct userdata_view, level),   0 },
	{ "message", &text_type, offsetof(struct userdata_view, message), 0 },
	{ "seen",    &userdata_record_type, offsetof(struct userdata_view, watch),  0 },
	{ "applied", &userdata_memory_type, offsetof(struct userdata_view, memory), 0 },
	{ NULL },
};
/* clang-format on */
const struct jd_type userdata_view_type = { .kind = JD_OBJECT,
					    .fields = view_fields,
					    .size = sizeof(struct userdata_view) };

static size_t count(const struct userdata_revision *r, int state)
{
	const struct userdata_run *runs = r->runs.items;
	size_t n = 0;

	for (size_t i = 0; i < r->runs.n; i++)
		n += runs[i].state == state;
	return n;
}

void userdata_phrase(const struct userdata_revision *r, struct buf *out)
{
	size_t failed = count(r, USERDATA_RUN_FAILED), skipped = count(r, USERDATA_RUN_SKIPPED),
	       done = count(r, USERDATA_RUN_DONE);

	if (r->message)
		(void)buf_puts(out, r->message);
	else if (failed)
		(void)buf_printf(out, "%zu of %zu parts failed", failed, r->runs.n);
	else if (done || !skipped)
		(void)buf_printf(out, "%zu part%s", done, done == 1 ? "" : "s");
	else
		(void)buf_puts(out, "nothing in it is for this agent to run");
	if (skipped && (failed || done))
		(void)buf_printf(out, ", %zu not run", skipped);
}

/* What a person has to know of the parts: all of a revision that ran. */
static void put_parts(const struct userdata_revision *r, struct buf *out)
{
	const struct userdata_run *runs = r->runs.items;

	for (size_t i = 0; i < r->runs.n && i < PARTS_TOLD; i++)
		(void)buf_printf(out, "\npart %zu (%s, %s): %s%s%s", i + 1, runs[i].name, runs[i].type,
				 runs[i].state == USERDATA_RUN_SKIPPED ? "not run"
								       : userdata_run_state_name(runs[i].state),
				 str_empty(runs[i].message) ? "" : ": ", runs[i].message ? runs[i].message : "");
	if (r->runs.n > PARTS_TOLD)
		(void)buf_printf(out, "\nand %zu more", r->runs.n - PARTS_TOLD);
}

static void put_waiting(const struct userdata_progress *p, usec_t now_boot, struct buf *out)
{
	char span[TIMEFMT_MAX];

	timefmt_span(usec_sub(now_boot, p->since_boot), span);
	switch (p->phase) {
	case USERDATA_WAITING_CLOUD_INIT:
		(void)buf_printf(out, "; waiting for cloud-init to finish, for %s", span);
		break;
	case USERDATA_WAITING_LOCKS:
		(void)buf_printf(out, "; waiting for the package manager's lock, for %s", span);
		break;
	case USERDATA_FETCHING:
		(void)buf_puts(out, "; fetching what it includes");
		if (p->problem)
			(void)buf_printf(out, ": %s", p->problem);
		break;
	default:
		(void)buf_puts(out, "; to be applied");
		if (p->problem)
			(void)buf_printf(out, ": %s", p->problem);
		break;
	}
	if (p->problem && p->next_boot > now_boot)
		(void)buf_printf(out, "; next try in %s", timefmt_span(usec_sub(p->next_boot, now_boot), span));
}

static void put_when(int64_t when, struct buf *out)
{
	char text[TIMEFMT_MAX];

	(void)buf_printf(out, " at %s", timefmt_utc((usec_t)when, text));
}

/* What cloud-init sees to is as it should be, unless a change is nothing but that: then it reaches nobody. */
static bool needs_attention(const struct userdata_revision *r)
{
	const struct userdata_run *runs = r->runs.items;
	bool left = false;

	for (size_t i = 0; i < r->runs.n; i++) {
		if (runs[i].state != USERDATA_RUN_SKIPPED || str_equal(runs[i].message, USERDATA_RUN_BY_CLOUD_INIT))
			continue;
		if (runs[i].kind != USERDATA_KIND_CLOUD_CONFIG)
			return true;
		left = true;
	}
	return left && !count(r, USERDATA_RUN_DONE);
}

/* Of the content that is there now. */
static enum status_level put_state(const struct userdata_revision *r, const struct userdata_settings *s,
				   const struct userdata_progress *p, usec_t now_boot, struct buf *out, int *ret_code)
{
	char span[TIMEFMT_MAX];

	switch (r->state) {
	case USERDATA_RUNNING:
		(void)buf_printf(out, "; being applied for %s", timefmt_span(usec_sub(now_boot, p->since_boot), span));
		if (p->phase == USERDATA_DELAYED)
			(void)buf_printf(out, ", next try in %s", timefmt_span(usec_sub(p->next_boot, now_boot), span));
		if (p->phase == USERDATA_PAUSED)
			(void)buf_puts(out, ", paused: goes on when the pause ends");
		put_parts(r, out);
		return STATUS_TRANSITIONING;
	case USERDATA_APPLIED:
		(void)buf_puts(out, "; applied");
		put_when(r->ended_usec, out);
		(void)buf_puts(out, ": ");
		userdata_phrase(r, out);
		put_parts(r, out);
		return needs_attention(r) ? STATUS_WARNING : STATUS_SUCCESS;
	case USERDATA_FAILED:
		(void)buf_puts(out, "; it failed");
		put_when(r->ended_usec, out);
		(void)buf_puts(out, ": ");
		userdata_phrase(r, out);
		(void)buf_puts(out, "; it is not tried again until it changes or `evenkeel userdata apply` says so");
		put_parts(r, out);
		*ret_code = CODE_SCRIPT_EXIT;
		return STATUS_ERROR;
	case USERDATA_ADOPTED:
		(void)buf_puts(out, "; it was there at the first look: the baseline, which is not run");
		return STATUS_SUCCESS;
	case USERDATA_CLOUD_INIT:
		(void)buf_puts(out, "; cloud-init has applied it at the first boot");
		return STATUS_SUCCESS;
	case USERDATA_IGNORED:
		(void)buf_puts(out, "; ignored by an operator's order");
		return STATUS_SUCCESS;
	default:
		if (s->action != USERDATA_APPLY && !r->ordered) {
			(void)buf_puts(out, "; not applied: userData.action is \"report\"");
			return STATUS_SUCCESS;
		}
		put_waiting(p, now_boot, out);
		return STATUS_TRANSITIONING;
	}
}

static void put_other(const struct userdata_memory *m, const char *sha256, struct buf *out)
{
	const struct userdata_revision *applied = userdata_memory_find(m, m->applied),
				       *failed = userdata_memory_find(m, m->failed);

	if (applied && !str_equal(m->applied, sha256))
		(void)buf_printf(out, "\nlast applied: revision %.*s", USERDATA_REVISION_CHARS, m->applied);
	if (applied && !str_equal(m->applied, sha256) && applied->ended_usec)
		put_when(applied->ended_usec, out);
	if (failed && !str_equal(m->failed, sha256)) {
		(void)buf_printf(out, "\nfailed before: revision %.*s: ", USERDATA_REVISION_CHARS, m->failed);
		userdata_phrase(failed, out);
	}
}

enum status_level userdata_tell(const struct userdata_memory *m, const struct userdata_settings *s, const char *sha256,
				const struct userdata_progress *p, enum status_level level, usec_t now_boot,
				struct buf *out, int *ret_code)
{
	static const int gravity[] = {
		[STATUS_SUCCESS] = 0, [STATUS_TRANSITIONING] = 1, [STATUS_WARNING] = 2, [STATUS_ERROR] = 3
	};
	const struct userdata_revision *r = userdata_memory_find(m, sha256), *running = userdata_memory_running(m);
	enum status_level own = STATUS_SUCCESS;

	if (running && running != r) {
		(void)buf_printf(out, "; revision %.*s is still being applied", USERDATA_REVISION_CHARS,
				 running->sha256);
		own = STATUS_TRANSITIONING;
	} else if (r) {
		own = put_state(r, s, p, now_boot, out, ret_code);
	} else if (sha256 && p->phase == USERDATA_WAITING_CLOUD_INIT) {
		put_waiting(p, now_boot, out);
		own = s->action == USERDATA_APPLY ? STATUS_TRANSITIONING : STATUS_SUCCESS;
	}
	put_other(m, sha256, out);
	if (p->settings_problem) {
		(void)buf_printf(out, "\nits settings are not in force: %s", p->settings_problem);
		*ret_code = *ret_code ? *ret_code : CODE_BAD_CONFIGURATION;
		own = gravity[own] < gravity[STATUS_WARNING] ? STATUS_WARNING : own;
	}
	return gravity[own] > gravity[level] ? own : level;
}
