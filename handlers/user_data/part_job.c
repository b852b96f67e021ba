/* One part of user data as a job, and what is kept of jobs that are over. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/str.h"
#include "agent/base/time.h"
#include "agent/io/paths.h"
#include "handlers/user_data/userdata_private.h"

#define PREFIX		"ud-"
#define OUTPUT_MAX	(16 * 1024 * 1024)
#define TAIL_BYTES	4096
#define JOBS_LISTED_MAX 4096

/* "ud-<revision>-<part>-<random>-<number>": a directory left by an older record is never taken for this run's. */
static char *job_id(const struct handler *h, const struct userdata_revision *r, size_t i)
{
	uint32_t random = 0;

	if (getrandom(&random, sizeof(random), 0) < 0)
		random = (uint32_t)time_wall();
	return str_format(PREFIX "%.12s-%zu-%08" PRIx32 "-%" PRId64, r->sha256, i + 1, random, h->memory.jobs);
}

static int add_variable(struct job_variable *v, const char *name, const char *value)
{
	return str_set(&v->name, name) < 0 ? -ENOMEM : str_set(&v->value, value);
}

/* What a boot hook finds under cloud-init, and which revision this is. */
static int make_environment(const struct handler *h, const struct userdata_revision *r, struct job *job)
{
	struct job_variable *v = calloc(2, sizeof(*v));

	if (!v)
		return -ENOMEM;
	job->environment = (struct jd_list){ v, 2 };
	if (add_variable(&v[0], "INSTANCE_ID", h->host->machine_id) < 0)
		return -ENOMEM;
	return add_variable(&v[1], "EVENKEEL_USERDATA_REVISION", r->sha256);
}

static int make_secrets(const struct userdata_item *item, struct job_secrets *secrets)
{
	struct job_secret *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	secrets->values = (struct jd_list){ s, 1 };
	return str_set(&s->name, JOB_CONTENT_SCRIPT) < 0 ? -ENOMEM
							 : str_set(&s->value, item->content ? item->content : "");
}

int userdata_part_start(struct handler *h, const struct userdata_revision *r, size_t i, jobs_done_fn done,
			struct error *err)
{
	struct userdata_run *run = (struct userdata_run *)r->runs.items + i;
	const struct userdata_item *item = (const struct userdata_item *)h->parts.items.items + i;
	struct job_secrets secrets = { 0 };
	struct job job;
	const struct jobs_request request = { .job = &job, .secrets = &secrets };
	_cleanup_free_ char *id = NULL;
	int k;

	h->memory.jobs++;
	id = job_id(h, r, i);
	job_init(&job);
	job.kind = JOB_SCRIPT;
	job.leave_survivors = true; /* as under cloud-init: `app &` is to go on */
	job.convert_line_endings = true;
	job.wipe_script = true;
	job.timeout_seconds = h->section->timeout_seconds;
	job.output_max_bytes = OUTPUT_MAX;
	job.tail_bytes = TAIL_BYTES;
	k = id && str_set(&job.id, id) >= 0 && str_set(&job.handler, HANDLER) >= 0 &&
			    str_set(&job.title, run->name) >= 0
		    ? 0
		    : -ENOMEM;
	if (k >= 0)
		k = make_environment(h, r, &job);
	if (k >= 0)
		k = make_secrets(item, &secrets);
	if (k >= 0)
		k = str_set(&run->job, id);
	if (k < 0)
		(void)error_oom(err);
	/* It stands in the record before anything runs: whatever happens next, it is not begun a second time unseen. */
	run->state = USERDATA_RUN_RUNNING;
	run->attempts++;
	if (k >= 0)
		k = userdata_save(h, err);
	if (k >= 0)
		k = jobs_start(h->host->jobs, &request, done, h, &h->job, err);
	jd_free(&job_secrets_type, &secrets);
	jd_free(&job_type, &job);
	return k;
}

static bool is_named(const struct handler *h, const char *id)
{
	const struct userdata_revision *revisions = h->memory.revisions.items;

	for (size_t i = 0; i < h->memory.revisions.n; i++) {
		const struct userdata_run *runs = revisions[i].runs.items;

		for (size_t k = 0; k < revisions[i].runs.n; k++)
			if (str_equal(runs[k].job, id))
				return true;
	}
	return false;
}

void userdata_part_prune(struct handler *h)
{
	_cleanup_strv_ char **names = NULL;

	if (fs_list(h->host->paths->jobs, JOBS_LISTED_MAX, &names, NULL) < 0)
		return;
	for (char **n = names; *n; n++)
		if (str_starts(*n, PREFIX) && !is_named(h, *n))
			jobs_forget(h->host->jobs, *n, true);
}
