/* Where jobs run in tests: a root directory of its own below /tmp, and what the daemon starts jobs with, as often as wanted. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "agent/base/fs.h"
#include "agent/base/str.h"
#include "agent/io/executor.h"
#include "agent/io/loop.h"
#include "agent/io/machine.h"
#include "agent/io/paths.h"
#include "handlers/common/jobs.h"

struct place {
	char dir[64], boot_id[MACHINE_ID_MAX];
	char *binary; /* the runner */
	struct paths paths;
	struct loop *loop;
	struct executor *executor;
	struct jobs *jobs;
};

static inline int place_make(struct place *p)
{
	const char *build = getenv("EK_TEST_BINARY_DIR");

	(void)snprintf(p->dir, sizeof(p->dir), "/tmp/ek-jobs-XXXXXX");
	if (!build || !mkdtemp(p->dir) || chmod(p->dir, 0755) < 0 || setenv("EVENKEEL_ROOT", p->dir, 1) < 0)
		return -1;
	p->binary = str_format("%s/tests/ek_runner_test", build);
	if (paths_init(&p->paths, NULL, NULL) < 0 || machine_boot_id(&p->paths, p->boot_id, NULL) < 0)
		return -1;
	return fs_mkdirs(p->paths.jobs, 0711, NULL) < 0 || fs_mkdirs(p->paths.run_jobs, 0700, NULL) < 0 ? -1 : 0;
}

static inline void place_open(struct place *p)
{
	assert_int_equal(loop_new(&p->loop, NULL), 0);
	assert_int_equal(executor_new(&p->executor, p->loop, NULL, p->binary, p->paths.run_jobs, NULL), 0);
	assert_int_equal(jobs_new(&p->jobs, p->loop, p->executor, &p->paths, p->boot_id, NULL), 0);
}

/* As a kill -9 of the daemon would leave it: nothing is said to anybody. */
static inline void place_close(struct place *p)
{
	jobs_free(p->jobs);
	executor_free(p->executor);
	loop_free(p->loop);
}

static inline int place_remove(struct place *p)
{
	if (fs_remove_tree(p->dir, NULL) < 0)
		return -1;
	paths_done(&p->paths);
	free(p->binary);
	return 0;
}
