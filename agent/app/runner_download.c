/* The files of a job: several at a time, each by runner_fetch.c; the first that cannot be had ends it. */
#include "agent/app/runner_network.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/app/runner_fetch.h"
#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/core/exit_codes.h"
#include "agent/io/loop.h"

struct all {
	struct loop *loop;
	const struct job *job;
	struct sources sources;
	struct loop_timer *timer; /* so that the first begin inside the loop */
	struct fetch **list;
	size_t n, begun, done;
	int code;
	struct error *err;
};

static void start_more(void *userdata)
{
	struct all *a = userdata;

	while (a->begun < a->n && a->begun - a->done < (size_t)a->job->parallel_downloads)
		fetch_start(a->list[a->begun++]);
}

static void on_done(int code, const struct error *err, void *userdata)
{
	struct all *a = userdata;

	if (err) {
		a->code = code;
		if (a->err)
			*a->err = *err;
		loop_exit(a->loop, DOWNLOADS_FAILED);
		return;
	}
	a->done++;
	start_more(a);
	if (a->done == a->n)
		loop_exit(a->loop, DOWNLOADS_DONE);
}

/* Directories of the files belong to the user, like the one they are in. */
static int make_parents(const struct runner_user *user, const char *work, const char *name, struct error *err)
{
	_cleanup_free_ char *path = str_format("%s/%s", work, name);

	if (!path)
		return error_oom(err);
	for (char *p = strchr(path + strlen(work) + 1, '/'); p; p = strchr(p + 1, '/')) {
		int r = 0;

		*p = '\0';
		if ((mkdir(path, 0755) < 0 && errno != EEXIST) ||
		    (user->switched && lchown(path, user->uid, user->gid) < 0))
			r = error_errno(err, -errno, "cannot make the directory %s", path);
		*p = '/';
		if (r < 0)
			return r;
	}
	return 0;
}

static int prepare(struct all *a, const struct job_secrets *secrets, const struct runner_user *user, const char *work,
		   const struct fetch_limits *limits, struct error *err)
{
	const struct job_download *from = a->job->downloads.items;

	for (size_t i = 0; i < a->n; i++) {
		const struct fetch_request q = { .loop = a->loop,
						 .client = a->sources.client,
						 .download = &from[i],
						 .uri = job_secret(secrets, from[i].uri),
						 .secret_uri = a->job->secret_uris,
						 .directory = work,
						 .number = i,
						 .may_convert = a->job->convert_line_endings,
						 .user = user,
						 .limits = limits ? limits : &fetch_limits_default };
		int r;

		if (!q.uri)
			return error_set(err, ERROR_SYSTEM, -ENOENT, "the URI of file %s is missing", from[i].name);
		r = make_parents(user, work, from[i].name, err);
		if (r >= 0)
			r = fetch_new(&a->list[i], &q, on_done, a, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static void tell_trouble(const struct all *a, struct error *err)
{
	const struct job_download *d = a->job->downloads.items;

	for (size_t i = 0; i < a->begun; i++)
		if (*fetch_trouble(a->list[i])) {
			(void)error_set(err, ERROR_TRANSIENT, -ETIME, "%.80s: %.400s", d[i].name,
					fetch_trouble(a->list[i]));
			return;
		}
}

int runner_download(struct loop *l, const struct job *job, const struct job_secrets *secrets,
		    const struct runner_user *user, const char *work, const struct fetch_limits *limits, int *ret_code,
		    struct error *err)
{
	struct all a = { .loop = l, .job = job, .n = job->downloads.n, .code = CODE_INTERNAL, .err = err };
	int r;

	a.list = calloc(a.n, sizeof(*a.list));
	r = a.list ? sources_open(&a.sources, l, job, secrets, "r", err) : error_oom(err);
	if (r >= 0)
		r = prepare(&a, secrets, user, work, limits, err);
	if (r >= 0 && loop_timer_new(l, "downloads", start_more, &a, &a.timer) < 0)
		r = error_oom(err);
	if (r >= 0) {
		loop_timer_after(a.timer, 0);
		r = loop_run(l);
		if (r < 0)
			(void)error_errno(err, r, "the loop of the downloads failed");
		else if (r == DOWNLOADS_STOPPED)
			tell_trouble(&a, err);
	}
	for (size_t i = 0; a.list && i < a.n; i++)
		fetch_free(a.list[i]);
	free(a.list);
	loop_timer_free(a.timer);
	sources_close(&a.sources);
	*ret_code = a.code;
	return r < 0 ? DOWNLOADS_FAILED : r;
}
