/* The view's tables, and its making from the memory of the plan and the files of the runs. */
#include "agent/core/script_view.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/codec/timefmt.h"

static const struct jd_type text = { .kind = JD_TEXT };
static const struct jd_type integer = { .kind = JD_INTEGER };
static const struct jd_type boolean = { .kind = JD_BOOLEAN };

/* clang-format off */
#define RUN(member) offsetof(struct view_run, member)
static const struct jd_field run_fields[] = {
	{ "job",                    &text,    RUN(job) },
	{ "sequence",               &text,    RUN(sequence) },
	{ "state",                  &text,    RUN(state) },
	{ "result",                 &text,    RUN(result) },
	{ "message",                &text,    RUN(message) },
	{ "startedAt",              &text,    RUN(started_at) },
	{ "endedAt",                &text,    RUN(ended_at) },
	{ "attempt",                &integer, RUN(attempt) },
	{ "durationInMilliseconds", &integer, RUN(duration_msec) },
	{ "exitCode",               &integer, RUN(exit_code) },
	{ "signal",                 &integer, RUN(signal) },
	{ "stdoutInBytes",          &integer, RUN(stdout_bytes) },
	{ "stderrInBytes",          &integer, RUN(stderr_bytes) },
	{ "survivors",              &integer, RUN(survivors) },
	{},
};
/* clang-format on */
static const struct jd_type run_type = { .kind = JD_OBJECT, .fields = run_fields, .size = sizeof(struct view_run) };
static const struct jd_type runs = { .kind = JD_LIST, .element = &run_type };

/* clang-format off */
#define SCRIPT(member) offsetof(struct view_script, member)
static const struct jd_field script_fields[] = {
	{ "name",     &text,    SCRIPT(name) },
	{ "origin",   &text,    SCRIPT(origin) },
	{ "sequence", &text,    SCRIPT(sequence) },
	{ "state",    &text,    SCRIPT(state) },
	{ "detail",   &text,    SCRIPT(detail) },
	{ "attempts", &integer, SCRIPT(attempts) },
	{ "runs",     &runs,    SCRIPT(runs) },
	{},
};
/* clang-format on */
static const struct jd_type script_type = { .kind = JD_OBJECT,
					    .fields = script_fields,
					    .size = sizeof(struct view_script) };
static const struct jd_type scripts = { .kind = JD_LIST, .element = &script_type };

/* clang-format off */
static const struct jd_field view_fields[] = {
	{ "running", &boolean, offsetof(struct script_view, running) },
	{ "scripts", &scripts, offsetof(struct script_view, scripts) },
	{},
};
/* clang-format on */
const struct jd_type script_view_type = { .kind = JD_OBJECT, .fields = view_fields, .size = sizeof(struct script_view) };

/* ---- scripts ---- */

static struct view_script *find(const struct script_view *v, const char *name, const char *origin)
{
	struct view_script *s = v->scripts.items;

	for (size_t i = 0; i < v->scripts.n; i++)
		if (str_equal(s[i].name, name) && str_equal(s[i].origin, origin))
			return &s[i];
	return NULL;
}

/* Room for one more at the end of the list, zeroed. */
static void *append(struct jd_list *list, size_t size)
{
	char *items = realloc(list->items, (list->n + 1) * size);

	if (!items)
		return NULL;
	list->items = items;
	memset(items + list->n * size, 0, size);
	return items + list->n++ * size;
}

struct view_script *script_view_get(struct script_view *v, const char *name, const char *origin)
{
	struct view_script *s = find(v, name, origin);

	if (s)
		return s;
	s = append(&v->scripts, sizeof(*s));
	if (!s || str_set(&s->name, name) < 0 || str_set(&s->origin, origin) < 0)
		return NULL;
	s->runs.items = calloc(1, sizeof(struct view_run)); /* a list without items, not an absent one */
	return s->runs.items ? s : NULL;
}

int script_view_tell(struct view_script *s, const struct script_run *run, const char *detail)
{
	static const char *const states[] = { [SCRIPT_PENDING] = "waiting",  [SCRIPT_RUNNING] = "running",
					      [SCRIPT_DONE] = "succeeded",   [SCRIPT_FAILED] = "failed",
					      [SCRIPT_NOT_RUN] = "notRun" };
	int r = str_set(&s->state, run ? states[run->state] : "waiting");

	if (r >= 0 && run)
		r = str_set(&s->sequence, run->sequence);
	if (r >= 0)
		r = str_set(&s->detail, detail ? detail : run ? run->message : NULL);
	s->attempts = run ? run->attempts : 0;
	return r;
}

/* ---- runs ---- */

static const char *state_of(const struct script_kept *k)
{
	static const char *const ends[] = { [JOB_SUCCEEDED] = "succeeded", [JOB_EXITED] = "failed",
					    [JOB_SIGNALED] = "failed",	   [JOB_TIMED_OUT] = "timedOut",
					    [JOB_STOPPED] = "stopped",	   [JOB_NOT_STARTED] = "notStarted",
					    [JOB_INTERRUPTED] = "interrupted" };

	if (k->ended)
		return ends[k->result.end];
	return k->lost ? "interrupted" : k->begun ? "running" : "starting";
}

static int fill_times(struct view_run *v, const struct script_kept *k, usec_t now_wall)
{
	char time[TIMEFMT_MAX];
	int r = 0;

	v->duration_msec = -1;
	if (k->ended) {
		v->duration_msec = k->result.duration_msec;
		r = str_set(&v->started_at, k->result.started_at);
		return r < 0 ? r : str_set(&v->ended_at, k->result.ended_at);
	}
	if (!k->begun)
		return 0;
	if (!k->lost)
		v->duration_msec = (int64_t)(usec_sub(now_wall, k->begun_wall) / USEC_PER_MSEC);
	return str_set(&v->started_at, timefmt_utc(k->begun_wall, time));
}

static int fill_result(struct view_run *v, const struct job_result *result)
{
	char phrase[128];
	int r = str_set(&v->result, job_result_phrase(result, phrase));

	v->exit_code = result->end == JOB_SUCCEEDED || result->end == JOB_EXITED ? result->exit_code : -1;
	v->signal = result->end == JOB_SIGNALED ? result->signal : -1;
	v->stdout_bytes = result->stdout_bytes;
	v->stderr_bytes = result->stderr_bytes;
	v->survivors = result->survivors;
	return r < 0 ? r : str_set(&v->message, result->message);
}

static int add_run(struct view_script *s, const struct script_kept *k, usec_t now_wall)
{
	struct view_run *v = append(&s->runs, sizeof(*v));
	int r = v ? str_set(&v->job, k->id) : -ENOMEM;

	if (r < 0)
		return r;
	v->attempt = k->attempt;
	v->exit_code = v->signal = -1;
	r = str_set(&v->sequence, k->sequence);
	r = r < 0 ? r : str_set(&v->state, state_of(k));
	r = r < 0 ? r : fill_times(v, k, now_wall);
	if (r >= 0 && k->ended)
		r = fill_result(v, &k->result);
	/* Of what nobody has told about, the newest run tells. */
	if (r < 0 || s->state)
		return r;
	s->attempts = v->attempt;
	r = str_set(&s->sequence, v->sequence);
	return r < 0 ? r : str_set(&s->state, v->state);
}

int script_view_add_runs(struct script_view *v, const struct script_kept *items, size_t n, usec_t now_wall)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < n; i++) {
		struct view_script *s;

		if (items[i].helper)
			continue;
		s = items[i].by_hand ? NULL : find(v, items[i].name, "settings");
		if (!s)
			s = script_view_get(v, items[i].name, items[i].by_hand ? "byHand" : "former");
		r = s ? add_run(s, &items[i], now_wall) : -ENOMEM;
	}
	return r;
}
