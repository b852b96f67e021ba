/* From a script's settings to its job. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/base/time.h"
#include "agent/io/loop.h"
#include "agent/io/paths.h"
#include "handlers/custom_script/script_private.h"
#include "handlers/custom_script/script_runs.h"


char *script_job_id(const char *name, int64_t number)
{
	_cleanup_free_ char *s = script_slug(name);
	uint32_t random = 0;

	/* So that a directory left by an older record is never taken for this run's. */
	if (getrandom(&random, sizeof(random), 0) < 0)
		random = (uint32_t)time_wall();
	return s ? str_format(SCRIPT_JOB_PREFIX "%s-%08" PRIx32 "-%" PRId64, s, random, number) : NULL;
}

/* ---- making ---- */

int script_job_secret(struct job_secrets *all, const char *name, const char *value)
{
	struct job_secret *grown = reallocarray(all->values.items, all->values.n + 1, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	all->values.items = grown;
	grown[all->values.n] = (struct job_secret){ strdup(name), strdup(value) };
	all->values.n++;
	return grown[all->values.n - 1].name && grown[all->values.n - 1].value ? 0 : -ENOMEM;
}

/* What is a secret goes through the secrets' file; the document of the job names it only. */
static int make_environment(const struct handler *h, const struct script_settings *s, struct job *job,
			    struct job_secrets *secrets)
{
	const struct script_variable *from = s->environment.items;
	struct job_variable *to;
	int r = 0;

	if (!s->environment.n)
		return 0;
	to = job->environment.items = calloc(s->environment.n, sizeof(*to));
	if (!to)
		return -ENOMEM;
	job->environment.n = s->environment.n;
	for (size_t i = 0; r >= 0 && i < s->environment.n; i++) {
		const char *value = settings_value(h->settings, SECTION_CUSTOM_SCRIPT, &from[i].value);

		to[i].name = strdup(from[i].name);
		if (from[i].value.ref)
			r = script_job_secret(secrets, from[i].name, value ? value : "");
		else
			to[i].value = strdup(value ? value : "");
		if (!to[i].name || (!from[i].value.ref && !to[i].value))
			r = -ENOMEM;
	}
	return r;
}

static int make_arguments(const struct script_settings *s, struct job *job)
{
	char *const *from = s->arguments.items;
	char **to;

	if (!s->arguments.n)
		return 0;
	to = job->argv.items = calloc(s->arguments.n, sizeof(*to));
	if (!to)
		return -ENOMEM;
	job->argv.n = s->arguments.n;
	for (size_t i = 0; i < s->arguments.n; i++) {
		to[i] = strdup(from[i]);
		if (!to[i])
			return -ENOMEM;
	}
	return 0;
}

static int make_work(const struct handler *h, const struct script_settings *s, struct job *job, struct job_secrets *secrets)
{
	const char *command = settings_value(h->settings, SECTION_CUSTOM_SCRIPT, &s->command_to_execute);
	const char *script = settings_value(h->settings, SECTION_CUSTOM_SCRIPT, &s->script);

	if (command) {
		job->kind = JOB_COMMAND;
		job->shell_is_secret = true;
		return script_job_secret(secrets, JOB_CONTENT_COMMAND, command);
	}
	job->kind = JOB_SCRIPT;
	job->wipe_script = s->script.ref;
	return script_job_secret(secrets, JOB_CONTENT_SCRIPT, script ? script : "");
}

static int make_allowed(const struct script_policy *policy, struct job *job)
{
	char *const *from = policy->scripts.items;
	char **to;

	if (!policy->scripts.n)
		return 0;
	to = job->allowed.items = calloc(policy->scripts.n, sizeof(*to));
	if (!to)
		return -ENOMEM;
	job->allowed.n = policy->scripts.n;
	for (size_t i = 0; i < policy->scripts.n; i++) {
		to[i] = strdup(from[i]);
		if (!to[i])
			return -ENOMEM;
	}
	return 0;
}

int script_job_make(const struct handler *h, const struct script_settings *s, const char *id, struct job *ret,
		    struct job_secrets *ret_secrets, struct error *err)
{
	struct job_secrets secrets = { 0 };
	struct job job;
	int r;

	job_init(&job);
	job.leave_survivors = true; /* as under Custom Script: `app &` is to go on */
	job.timeout_seconds = s->timeout_seconds;
	job.deadline_boot_usec = s->asynchronous ? 0 : (int64_t)h->deadline;
	job.nice = s->limits.nice;
	job.output_max_bytes = s->output.max_bytes;
	job.tail_bytes = s->output.tail_bytes;
	job.wipe = s->wipe;
	job.convert_line_endings = s->convert_line_endings;
	r = make_work(h, s, &job, &secrets);
	if (r >= 0)
		r = make_arguments(s, &job);
	if (r >= 0)
		r = make_allowed(&h->policy, &job);
	if (r >= 0)
		r = make_environment(h, s, &job, &secrets);
	if (r >= 0)
		r = script_job_sources(h, s, &job, &secrets, err);
	if (r >= 0 && (str_set(&job.id, id) < 0 || str_set(&job.handler, SCRIPT_HANDLER) < 0 ||
		       str_set(&job.title, s->name) < 0 || str_set(&job.boot_id, h->host->boot_id) < 0 ||
		       str_set(&job.user, s->run_as) < 0 ||
		       str_set(&job.directory, str_empty(s->working_directory) ? NULL : s->working_directory) < 0))
		r = -ENOMEM;
	if (r < 0) {
		jd_free(&job_type, &job);
		jd_free(&job_secrets_type, &secrets);
		return r == -ENOMEM ? error_oom(err) : r;
	}
	*ret = job;
	*ret_secrets = secrets;
	return 0;
}

int script_job_possible(const struct script_settings *s, struct error *err)
{
	const struct script_file *files = s->files.items;

	for (size_t i = 0; i < s->files.n; i++)
		if (str_empty(files[i].name))
			return error_set(err, ERROR_USER, -EINVAL, "script %s: the URI of file %zu holds no file name; give one in \"name\"",
					 s->name, i + 1);
	return 0;
}
