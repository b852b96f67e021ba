/*
 * The hooks of the machine: once for all that has come into use in one cycle, tried again until they succeed. Which items
 * they are still to be told of stands in the items' records.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/random.h"
#include "agent/base/str.h"
#include "agent/codec/digest.h"
#include "agent/codec/timefmt.h"
#include "agent/core/retry.h"
#include "agent/io/loop.h"
#include "agent/io/paths.h"
#include "handlers/key_refresh/activate.h"
#include "handlers/key_refresh/item.h"

#define HOOK_SECONDS 60 /* each */
#define TOLD_AT_ONCE 100
#define GATHER_MOST  (60 * USEC_PER_SEC)
#define PROBLEM_MAX  500

struct told {
	char *name, *version;
};

struct hooks {
	struct handler *h;
	char *directory;
	struct jobs_handle *job;
	char *id;
	struct told *told; /* of the run */
	size_t n_told;
	struct retry_state retry;
	usec_t next_boot;
	usec_t since_boot; /* that somebody has been untold; 0: nobody is */
	char *problem;
	bool lost; /* the run before was gone without a result, and was begun again at once */
};

static const char *untold(const struct item *i)
{
	return i->plan.record.activation.untold;
}

bool hooks_there(const struct hooks *k)
{
	return fs_is_dir(k->directory);
}

/* A version that is on its way out, or in, is not told of. */
static bool is_waiting(const struct item *i)
{
	return untold(i) && i->plan.record.activation.step == ACTIVATION_NONE;
}

bool hooks_busy(const struct hooks *k)
{
	bool due = !k->h->retiring && k->next_boot <= loop_now_boot(k->h->host->loop);

	for (size_t x = 0; due && x < k->h->n; x++)
		if (is_waiting(k->h->items[x]))
			return true;
	return k->job;
}

static void told_free(struct hooks *k)
{
	for (size_t n = 0; n < k->n_told; n++) {
		free(k->told[n].name);
		free(k->told[n].version);
	}
	free(k->told);
	k->told = NULL;
	k->n_told = 0;
}

static void forget_job(struct hooks *k)
{
	jobs_handle_free(TAKE_PTR(k->job));
	free(TAKE_PTR(k->id));
}

/* A later version that came meanwhile is still to be told. */
static void note_told(struct hooks *k)
{
	for (size_t n = 0; n < k->n_told; n++)
		for (size_t x = 0; x < k->h->n; x++) {
			struct item *i = k->h->items[x];

			if (!str_equal(i->name, k->told[n].name) || !str_equal(untold(i), k->told[n].version))
				continue;
			free(TAKE_PTR(i->plan.record.activation.untold));
			(void)item_save(i, FS_REPLACE, NULL);
		}
}

static void tell_failure(struct hooks *k, const char *why)
{
	usec_t wait = USEC_PER_MINUTE, now = loop_now_boot(k->h->host->loop);

	if (!k->problem)
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER, .milestone = true), "hooks of %s: %s; they are run again",
			k->directory, why);
	free(TAKE_PTR(k->problem));
	k->problem = strndup(why, utf8_cut(why, strlen(why), PROBLEM_MAX));
	(void)retry_failed(&retry_work, &k->retry, 0, 0, random_jitter(), now, &wait);
	k->next_boot = usec_add(now, wait);
}

static void on_hooks(const struct job_result *result, void *userdata)
{
	struct hooks *k = userdata;
	_cleanup_buf_ struct buf why = BUF_INIT(LIMIT_STATUS_MESSAGE);

	if (result->end == JOB_SUCCEEDED) {
		note_told(k);
		retry_succeeded(&k->retry);
		free(TAKE_PTR(k->problem));
		k->next_boot = 0;
	} else if (result->end != JOB_INTERRUPTED || k->lost) {
		activate_phrase(result, &why);
		tell_failure(k, buf_str(&why));
	}
	k->lost = result->end == JOB_INTERRUPTED;
	jobs_forget(k->h->host->jobs, k->id, true);
	forget_job(k);
	told_free(k);
	k->h->host->changed(k->h->host);
	loop_timer_after(k->h->timer, 0);
}

static int note_run(struct hooks *k, struct item *const *items, size_t n, struct buf *all)
{
	k->told = calloc(n, sizeof(*k->told));
	if (!k->told)
		return -ENOMEM;
	for (; k->n_told < n; k->n_told++) {
		struct told *t = &k->told[k->n_told];

		*t = (struct told){ strdup(items[k->n_told]->name), strdup(untold(items[k->n_told])) };
		if (!t->name || !t->version) {
			k->n_told++;
			return -ENOMEM;
		}
		(void)buf_printf(all, "%s\n%s\n", t->name, t->version);
	}
	return buf_ok(all);
}

/* The same run has the same id: after a kill of the daemon it is found again. */
static int make_spec(struct hooks *k, struct item *const *items, size_t n, struct job *spec)
{
	_cleanup_buf_ struct buf all = BUF_INIT(LIMIT_JOB_FILE);
	char digest[SHA256_HEX_MAX];

	job_init(spec);
	spec->kind = JOB_HOOKS;
	spec->output_max_bytes = LIMIT_CHILD_OUTPUT;
	spec->tail_bytes = LIMIT_LOG_LINE;
	spec->timeout_seconds = HOOK_SECONDS;
	if (note_run(k, items, n, &all) < 0 || sha256_hex(buf_str(&all), all.len, digest) < 0)
		return -ENOMEM;
	spec->id = str_format("key-hooks-%.24s", digest);
	spec->handler = strdup(HANDLER);
	spec->title = strdup("hooks");
	spec->directory = strdup(k->directory);
	if (!spec->id || !spec->handler || !spec->title || !spec->directory)
		return -ENOMEM;
	return activate_tell(spec, items, n, TOLD_HOOKS);
}

static void run(struct hooks *k, struct item *const *items, size_t n)
{
	struct job spec = { 0 };
	const struct jobs_request req = { .job = &spec };
	struct error e = ERROR_INIT;
	int r = make_spec(k, items, n, &spec) < 0 ? error_oom(&e) : 0;

	if (r >= 0 && str_set(&k->id, spec.id) < 0)
		r = error_oom(&e);
	if (r >= 0)
		r = jobs_start(k->h->host->jobs, &req, on_hooks, k, &k->job, &e);
	jd_free(&job_type, &spec);
	if (r >= 0)
		return;
	forget_job(k);
	told_free(k);
	tell_failure(k, e.msg);
}

/* What is still on its way may be told of in the same run. */
static bool is_quiet(const struct hooks *k)
{
	for (size_t x = 0; x < k->h->n; x++)
		if (k->h->items[x]->phase != PHASE_IDLE)
			return false;
	return true;
}

usec_t hooks_look(struct hooks *k, usec_t now_boot)
{
	struct item *items[TOLD_AT_ONCE];
	size_t n = 0;

	for (size_t x = 0; x < k->h->n && n < TOLD_AT_ONCE; x++)
		if (is_waiting(k->h->items[x]))
			items[n++] = k->h->items[x];
	if (!n)
		k->since_boot = 0;
	if (!n || k->job || k->h->retiring)
		return USEC_INFINITY;
	if (!k->since_boot)
		k->since_boot = now_boot;
	if (k->next_boot > now_boot)
		return k->next_boot;
	if (!is_quiet(k) && usec_add(k->since_boot, GATHER_MOST) > now_boot)
		return usec_add(k->since_boot, GATHER_MOST);
	run(k, items, n);
	return k->job ? USEC_INFINITY : k->next_boot;
}

void hooks_forgive(struct hooks *k)
{
	retry_succeeded(&k->retry);
	k->next_boot = 0;
}

void hooks_describe(const struct hooks *k, const struct item *i, struct buf *out, struct component *c)
{
	usec_t now = loop_now_boot(k->h->host->loop);
	char wait[TIMEFMT_MAX];

	if (!k->problem || !untold(i))
		return;
	(void)buf_printf(out, "; hooks of %s: %s", k->directory, k->problem);
	if (k->next_boot > now)
		(void)buf_printf(out, "; next try in %s", timefmt_span(usec_sub(k->next_boot, now), wait));
	if (c->level == STATUS_SUCCESS)
		c->level = STATUS_WARNING;
}

int hooks_new(struct handler *h, struct hooks **ret)
{
	struct hooks *k = calloc(1, sizeof(*k));

	if (!k)
		return -ENOMEM;
	k->h = h;
	k->directory = path_join(h->host->paths->etc, "hooks/activate.d");
	if (!k->directory) {
		free(k);
		return -ENOMEM;
	}
	*ret = k;
	return 0;
}

void hooks_free(struct hooks *k)
{
	if (!k)
		return;
	forget_job(k);
	told_free(k);
	free(k->problem);
	free(k->directory);
	free(k);
}
