/* Which revision of user data is due, and what follows from a result. */
#include "agent/core/userdata_apply.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/core/exit_codes.h"
#include "agent/core/settings_common.h"

/* ---- the document ---- */

static const char *const state_names[] = { "pending",	"running", "applied",	"failed", "adopted",
					   "cloudInit", "ignored", "cancelled", NULL };
static const char *const run_names[] = { "pending", "running", "done", "failed", "skipped", NULL };
static const char *const kind_names[] = {
	"shellscript", "boothook", "include", "settings", "cloudConfig", "other", NULL
};
_Static_assert(ARRAY_SIZE(state_names) == _USERDATA_STATE_MAX + 1, "a name for each state");
_Static_assert(ARRAY_SIZE(kind_names) == _USERDATA_KIND_MAX + 1, "a name for each kind");

static const struct jd_type text_type = { .kind = JD_TEXT, .max = 1024 };
static const struct jd_type number_type = { .kind = JD_INTEGER };
static const struct jd_type flag_type = { .kind = JD_BOOLEAN };
static const struct jd_type state_type = { .kind = JD_CHOICE, .names = state_names };
static const struct jd_type run_state_type = { .kind = JD_CHOICE, .names = run_names };
static const struct jd_type kind_type = { .kind = JD_CHOICE, .names = kind_names };

/* clang-format off */
static const struct jd_field run_fields[] = {
	{ "name",     &text_type,      offsetof(struct userdata_run, name),     0 },
	{ "type",     &text_type,      offsetof(struct userdata_run, type),     0 },
	{ "kind",     &kind_type,      offsetof(struct userdata_run, kind),     0 },
	{ "state",    &run_state_type, offsetof(struct userdata_run, state),    0 },
	{ "job",      &text_type,      offsetof(struct userdata_run, job),      0 },
	{ "attempts", &number_type,    offsetof(struct userdata_run, attempts), JD_OMIT_EMPTY },
	{ "code",     &number_type,    offsetof(struct userdata_run, code),     JD_OMIT_EMPTY },
	{ "message",  &text_type,      offsetof(struct userdata_run, message),  0 },
	{ NULL },
};
static const struct jd_type run_type = { .kind = JD_OBJECT, .fields = run_fields, .size = sizeof(struct userdata_run) };
static const struct jd_type runs_type = { .kind = JD_LIST, .element = &run_type, .max = LIMIT_USER_DATA_PARTS };
static const struct jd_field revision_fields[] = {
	{ "sha256",    &text_type,   offsetof(struct userdata_revision, sha256),      0 },
	{ "size",      &number_type, offsetof(struct userdata_revision, size),        0 },
	{ "format",    &number_type, offsetof(struct userdata_revision, form.format), 0 },
	{ "gzip",      &flag_type,   offsetof(struct userdata_revision, form.gzip),   JD_OMIT_EMPTY },
	{ "state",     &state_type,  offsetof(struct userdata_revision, state),       0 },
	{ "ordered",   &flag_type,   offsetof(struct userdata_revision, ordered),     JD_OMIT_EMPTY },
	{ "seenUsec",  &number_type, offsetof(struct userdata_revision, seen_usec),   0 },
	{ "begunUsec", &number_type, offsetof(struct userdata_revision, begun_usec),  JD_OMIT_EMPTY },
	{ "endedUsec", &number_type, offsetof(struct userdata_revision, ended_usec),  JD_OMIT_EMPTY },
	{ "bootId",    &text_type,   offsetof(struct userdata_revision, boot_id),     0 },
	{ "message",   &text_type,   offsetof(struct userdata_revision, message),     0 },
	{ "parts",     &runs_type,   offsetof(struct userdata_revision, runs),        JD_OMIT_EMPTY },
	{ NULL },
};
static const struct jd_type revision_type = { .kind = JD_OBJECT, .fields = revision_fields,
					      .size = sizeof(struct userdata_revision) };
static const struct jd_type revisions_type = { .kind = JD_LIST, .element = &revision_type, .max = LIMIT_USER_DATA_HISTORY };
static const struct jd_field memory_fields[] = {
	{ "looked",    &number_type,    offsetof(struct userdata_memory, looked),    0 },
	{ "applied",   &text_type,      offsetof(struct userdata_memory, applied),   0 },
	{ "failed",    &text_type,      offsetof(struct userdata_memory, failed),    0 },
	{ "jobs",      &number_type,    offsetof(struct userdata_memory, jobs),      0 },
	{ "revisions", &revisions_type, offsetof(struct userdata_memory, revisions), 0 },
	{ NULL },
};
/* clang-format on */
const struct jd_type userdata_memory_type = { .kind = JD_OBJECT,
					      .fields = memory_fields,
					      .size = sizeof(struct userdata_memory) };

const char *userdata_state_name(int state)
{
	return state >= 0 && state < _USERDATA_STATE_MAX ? state_names[state] : "unknown";
}

const char *userdata_run_state_name(int state)
{
	return state >= 0 && state <= USERDATA_RUN_SKIPPED ? run_names[state] : "unknown";
}

struct userdata_revision *userdata_memory_find(const struct userdata_memory *m, const char *sha256)
{
	struct userdata_revision *list = m->revisions.items;

	for (size_t i = 0; sha256 && i < m->revisions.n; i++)
		if (str_equal(list[i].sha256, sha256))
			return &list[i];
	return NULL;
}

struct userdata_revision *userdata_memory_running(const struct userdata_memory *m)
{
	struct userdata_revision *list = m->revisions.items;

	for (size_t i = 0; i < m->revisions.n; i++)
		if (list[i].state == USERDATA_RUNNING)
			return &list[i];
	return NULL;
}

/* What goes is the oldest that does not run and is not what the machine has. */
static void forget_oldest(struct userdata_memory *m)
{
	struct userdata_revision *list = m->revisions.items;

	for (size_t i = m->revisions.n; i-- > 0;) {
		if (list[i].state == USERDATA_RUNNING || str_equal(list[i].sha256, m->applied))
			continue;
		jd_free(&revision_type, &list[i]);
		m->revisions.n--;
		memmove(&list[i], &list[i + 1], (m->revisions.n - i) * sizeof(*list));
		return;
	}
}

struct userdata_revision *userdata_memory_add(struct userdata_memory *m, const char *sha256)
{
	char *copy = strdup(sha256);
	struct userdata_revision *grown;

	if (m->revisions.n >= LIMIT_USER_DATA_HISTORY)
		forget_oldest(m);
	grown = copy ? reallocarray(m->revisions.items, m->revisions.n + 1, sizeof(*grown)) : NULL;
	if (!grown) {
		free(copy);
		return NULL;
	}
	memmove(grown + 1, grown, m->revisions.n * sizeof(*grown));
	grown[0] = (struct userdata_revision){ .sha256 = copy };
	m->revisions.items = grown;
	m->revisions.n++;
	return grown;
}

void userdata_memory_trim(struct userdata_memory *m, size_t keep)
{
	struct userdata_revision *list = m->revisions.items;

	for (size_t i = keep; i < m->revisions.n; i++)
		if (list[i].state != USERDATA_RUNNING)
			jd_free(&runs_type, &list[i].runs);
}

int userdata_memory_encode(struct userdata_memory *m, struct buf *out)
{
	struct userdata_revision *list = m->revisions.items;
	size_t keep = m->revisions.n;

	for (;;) {
		int k = jd_encode(&userdata_memory_type, m, false, out);

		if (k != -EFBIG || keep <= 1)
			return k;
		buf_reset(out);
		keep--;
		if (list[keep].state != USERDATA_RUNNING)
			jd_free(&runs_type, &list[keep].runs);
	}
}

/* ---- deciding ---- */

static enum userdata_next first_seen(const struct userdata_memory *m, const struct userdata_settings *s,
				     const struct userdata_facts *f)
{
	if (f->boot == USERDATA_BOOT_CLOUD_INIT_OVER && f->first_boot) {
		/* What it has found at the first boot it has applied. Something else (custom data, where there is both; a
		 * change since) nobody has. */
		return f->cloud_init_has_it ? USERDATA_NOTE_CLOUD_INIT : USERDATA_NOTE_CHANGE;
	}
	return (m->looked >> f->source & 1) || s->baseline == USERDATA_RUN ? USERDATA_NOTE_CHANGE : USERDATA_ADOPT_NOW;
}

enum userdata_next userdata_decide(const struct userdata_memory *m, const struct userdata_settings *s,
				   const struct userdata_facts *f)
{
	const struct userdata_revision *r = userdata_memory_find(m, f->sha256);
	bool waiting = f->boot == USERDATA_BOOT_UNKNOWN || f->boot == USERDATA_BOOT_CLOUD_INIT_RUNS, due = false;

	if (!s || !f->sha256)
		return USERDATA_KEEP;
	if (!r)
		return waiting ? USERDATA_WAIT : first_seen(m, s, f);
	switch (r->state) {
	case USERDATA_RUNNING:
		return USERDATA_RUN_NOW;
	case USERDATA_PENDING:
	case USERDATA_CANCELLED:
		due = true;
		break;
	case USERDATA_ADOPTED:
	case USERDATA_APPLIED:
	case USERDATA_FAILED:
	case USERDATA_CLOUD_INIT:
		due = (r->state == USERDATA_ADOPTED && s->baseline == USERDATA_RUN) ||
		      (s->run_policy == USERDATA_EVERY_BOOT && !str_equal(r->boot_id, f->boot_id));
		if (due && s->action != USERDATA_APPLY)
			return USERDATA_KEEP;
		break;
	default:
		break;
	}
	if (!due)
		return USERDATA_KEEP;
	if (s->action != USERDATA_APPLY && !r->ordered)
		return USERDATA_HOLD;
	return waiting ? USERDATA_WAIT : USERDATA_RUN_NOW;
}

static bool is_wanted(const struct userdata_settings *s, int kind)
{
	const int *parts = s->parts.items;

	for (size_t i = 0; i < s->parts.n; i++)
		if (parts[i] == kind)
			return true;
	return false;
}

bool userdata_part_due(const struct userdata_item *i, const struct userdata_settings *s, bool cloud_init_ran_it,
		       const char **ret_why)
{
	static const char *const unwanted[] = { "userData.parts does not name \"shellscript\"",
						"userData.parts does not name \"boothook\"",
						"userData.parts does not name \"include\"",
						"userData.parts does not name \"settings\"" };

	if (i->kind == USERDATA_KIND_CLOUD_CONFIG)
		*ret_why = i->problem ? i->problem
				      : "left to cloud-init, which applies it at the first boot of an instance";
	else if (i->problem)
		*ret_why = i->problem;
	else if (i->kind == USERDATA_KIND_OTHER)
		*ret_why = "of a type that is not supported";
	else if (i->kind == USERDATA_KIND_SETTINGS && s->action != USERDATA_APPLY)
		*ret_why = "settings are taken with userData.action \"apply\" only";
	else if (!is_wanted(s, i->kind))
		*ret_why = unwanted[i->kind];
	else if (cloud_init_ran_it &&
		 (i->kind == USERDATA_KIND_BOOTHOOK || str_equal(i->type, "text/x-shellscript-per-boot")))
		*ret_why = USERDATA_RUN_BY_CLOUD_INIT;
	else
		return true;
	return false;
}

int userdata_runs_make(struct userdata_revision *r, const struct userdata_parts *p, const struct userdata_settings *s,
		       bool cloud_init_has_it)
{
	const struct userdata_item *items = p->items.items;
	struct userdata_run *runs = calloc(p->items.n + 1, sizeof(*runs));
	int k = runs ? 0 : -ENOMEM;

	jd_free(&runs_type, &r->runs);
	if (!runs)
		return k;
	r->runs = (struct jd_list){ runs, p->items.n };
	for (size_t i = 0; k >= 0 && i < p->items.n; i++) {
		const char *why = NULL;

		runs[i].kind = items[i].kind;
		if (!userdata_part_due(&items[i], s, cloud_init_has_it && !r->ordered, &why))
			runs[i].state = USERDATA_RUN_SKIPPED;
		if (str_set(&runs[i].name, items[i].name) < 0 || str_set(&runs[i].type, items[i].type) < 0 ||
		    str_set(&runs[i].message, why) < 0)
			k = -ENOMEM;
	}
	return k;
}

static bool is_retried(const struct retry_settings *retry, const struct job_result *r)
{
	const int64_t *codes = retry->on_exit_codes.items;

	if (!retry->on_exit_codes.n)
		return true;
	for (size_t i = 0; r->end == JOB_EXITED && i < retry->on_exit_codes.n; i++)
		if (codes[i] == r->exit_code)
			return true;
	return false;
}

enum userdata_after userdata_after(const struct userdata_settings *s, const struct userdata_run *run,
				   const struct job_result *r, bool attached, bool patient)
{
	if (r->end == JOB_SUCCEEDED)
		return USERDATA_ENDED_WELL;
	/* Recorded as begun, but killed before it was: nothing of it has run. */
	if (r->end == JOB_NOT_STARTED && (attached || (patient && !r->started_at)))
		return USERDATA_BEGIN_AGAIN;
	if (!s || run->attempts > s->retry.times || !is_retried(&s->retry, r))
		return USERDATA_ENDED_BADLY;
	return USERDATA_TRY_AGAIN;
}

int userdata_revision_end(struct userdata_memory *m, struct userdata_revision *r, int64_t now_usec)
{
	const struct userdata_run *runs = r->runs.items;
	bool failed = r->message;

	for (size_t i = 0; i < r->runs.n; i++)
		failed = failed || runs[i].state == USERDATA_RUN_FAILED;
	r->state = failed ? USERDATA_FAILED : USERDATA_APPLIED;
	r->ended_usec = now_usec;
	r->ordered = false;
	if (failed)
		return str_set(&m->failed, r->sha256);
	return str_set(&m->applied, r->sha256) < 0 ? -ENOMEM : str_set(&m->failed, NULL);
}
