/*
 * Old jobs, forgotten: a script may have run as another user and left whatever it liked, which the daemon, without a
 * capability, could not remove, and which may be more than its loop should spend time on.
 */
#include <errno.h>

#include "agent/app/runner.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/str.h"
#include "agent/io/paths.h"

int runner_forget(const struct job *job, const struct paths *p, struct error *err)
{
	const struct job_file *files = job->files.items;
	struct error e = ERROR_INIT;
	int result = 0;

	for (size_t i = 0; i < job->files.n; i++) {
		_cleanup_free_ char *directory = job_id_valid(files[i].name) ? path_of_job(p, files[i].name) : NULL;
		int r;

		if (!directory || str_equal(files[i].name, job->id))
			r = error_set(&e, ERROR_SYSTEM, -EINVAL, "\"%s\" is not a job to forget", files[i].name);
		else
			r = fs_remove_tree(directory, &e);
		if (r < 0 && result == 0)
			result = error_set(err, e.cls, r, "%s", e.msg);
	}
	return result;
}
