/* Which revision of user data is due, what is run of it, what follows from a result, and how that is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/core/settings_common.h"
#include "agent/core/userdata_apply.h"
#include "agent/core/userdata_view.h"

#define SHA_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define SHA_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define NOW   ((int64_t)1763632800 * 1000000) /* 2025-11-20T10:00:00Z */

static int shellscript[] = { USERDATA_SHELLSCRIPT };
static int all_parts[] = { USERDATA_SHELLSCRIPT, USERDATA_BOOTHOOK, USERDATA_INCLUDE, USERDATA_SETTINGS };

static struct userdata_settings settings(int action)
{
	return (struct userdata_settings){ .action = action, .parts = { shellscript, 1 } };
}

static struct userdata_facts facts(const char *sha256, int boot)
{
	return (struct userdata_facts){ .sha256 = sha256, .boot_id = "boot", .boot = boot };
}

static void memory_done(struct userdata_memory *m)
{
	jd_free(&userdata_memory_type, m);
}

static struct userdata_revision *add(struct userdata_memory *m, const char *sha256, int state)
{
	struct userdata_revision *r = userdata_memory_add(m, sha256);

	assert_non_null(r);
	r->state = state;
	r->boot_id = strdup("boot");
	return r;
}

/* ---- deciding ---- */

static void test_first_look(void **state)
{
	static const struct {
		int boot;
		bool first_boot, has_it;
		int baseline;
		int64_t looked;
		enum userdata_next next;
	} cases[] = {
		/* Nobody works against cloud-init, or before it is known whether it runs. */
		{ USERDATA_BOOT_CLOUD_INIT_RUNS, false, false, USERDATA_RUN, 0, USERDATA_WAIT },
		{ USERDATA_BOOT_UNKNOWN, false, false, USERDATA_RUN, 1, USERDATA_WAIT },
		/* The first boot of an instance: equality is proof, also when IMDS was empty at first. */
		{ USERDATA_BOOT_CLOUD_INIT_OVER, true, true, USERDATA_ADOPT, 0, USERDATA_NOTE_CLOUD_INIT },
		{ USERDATA_BOOT_CLOUD_INIT_OVER, true, true, USERDATA_RUN, 1, USERDATA_NOTE_CLOUD_INIT },
		{ USERDATA_BOOT_CLOUD_INIT_OVER, true, false, USERDATA_ADOPT, 0, USERDATA_NOTE_CHANGE },
		/* Later it proves nothing. */
		{ USERDATA_BOOT_CLOUD_INIT_OVER, false, true, USERDATA_ADOPT, 0, USERDATA_ADOPT_NOW },
		{ USERDATA_BOOT_CLOUD_INIT_OVER, false, false, USERDATA_ADOPT, 0, USERDATA_ADOPT_NOW },
		{ USERDATA_BOOT_CLOUD_INIT_OVER, false, true, USERDATA_RUN, 0, USERDATA_NOTE_CHANGE },
		{ USERDATA_BOOT_NO_CLOUD_INIT, false, false, USERDATA_ADOPT, 0, USERDATA_ADOPT_NOW },
		{ USERDATA_BOOT_NO_CLOUD_INIT, false, false, USERDATA_RUN, 0, USERDATA_NOTE_CHANGE },
		/* Not the first look: a change. */
		{ USERDATA_BOOT_NO_CLOUD_INIT, false, false, USERDATA_ADOPT, 1, USERDATA_NOTE_CHANGE },
		{ USERDATA_BOOT_CLOUD_INIT_OVER, false, true, USERDATA_ADOPT, 1, USERDATA_NOTE_CHANGE },
		/* A look at another source is none at this one. */
		{ USERDATA_BOOT_NO_CLOUD_INIT, false, false, USERDATA_ADOPT, 2, USERDATA_ADOPT_NOW },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct userdata_settings s = settings(USERDATA_REPORT);
		struct userdata_facts f = facts(SHA_A, cases[i].boot);
		struct userdata_memory m = { .looked = cases[i].looked };

		s.baseline = cases[i].baseline;
		f.first_boot = cases[i].first_boot;
		f.cloud_init_has_it = cases[i].has_it;
		assert_int_equal(userdata_decide(&m, &s, &f), cases[i].next);
	}
}

static void test_known_revisions(void **state)
{
	static const struct {
		int state, action, boot, run_policy, baseline;
		bool ordered, other_boot;
		enum userdata_next next;
	} cases[] = {
		{ USERDATA_PENDING, USERDATA_REPORT, USERDATA_BOOT_NO_CLOUD_INIT, 0, 0, false, false, USERDATA_HOLD },
		{ USERDATA_PENDING, USERDATA_REPORT, USERDATA_BOOT_NO_CLOUD_INIT, 0, 0, true, false, USERDATA_RUN_NOW },
		{ USERDATA_PENDING, USERDATA_APPLY, USERDATA_BOOT_NO_CLOUD_INIT, 0, 0, false, false, USERDATA_RUN_NOW },
		{ USERDATA_PENDING, USERDATA_APPLY, USERDATA_BOOT_CLOUD_INIT_RUNS, 0, 0, false, false, USERDATA_WAIT },
		{ USERDATA_PENDING, USERDATA_REPORT, USERDATA_BOOT_UNKNOWN, 0, 0, true, false, USERDATA_WAIT },
		{ USERDATA_CANCELLED, USERDATA_APPLY, USERDATA_BOOT_CLOUD_INIT_OVER, 0, 0, false, false,
		  USERDATA_RUN_NOW },
		{ USERDATA_RUNNING, USERDATA_REPORT, USERDATA_BOOT_CLOUD_INIT_RUNS, 0, 0, false, false,
		  USERDATA_RUN_NOW },
		{ USERDATA_APPLIED, USERDATA_APPLY, USERDATA_BOOT_NO_CLOUD_INIT, 0, USERDATA_RUN, false, true,
		  USERDATA_KEEP },
		{ USERDATA_FAILED, USERDATA_APPLY, USERDATA_BOOT_NO_CLOUD_INIT, 0, 0, false, true, USERDATA_KEEP },
		{ USERDATA_ADOPTED, USERDATA_APPLY, USERDATA_BOOT_NO_CLOUD_INIT, 0, USERDATA_ADOPT, false, true,
		  USERDATA_KEEP },
		{ USERDATA_ADOPTED, USERDATA_APPLY, USERDATA_BOOT_NO_CLOUD_INIT, 0, USERDATA_RUN, false, false,
		  USERDATA_RUN_NOW },
		{ USERDATA_ADOPTED, USERDATA_REPORT, USERDATA_BOOT_NO_CLOUD_INIT, 0, USERDATA_RUN, false, false,
		  USERDATA_KEEP },
		{ USERDATA_CLOUD_INIT, USERDATA_APPLY, USERDATA_BOOT_CLOUD_INIT_OVER, 0, USERDATA_RUN, false, true,
		  USERDATA_KEEP },
		{ USERDATA_IGNORED, USERDATA_APPLY, USERDATA_BOOT_NO_CLOUD_INIT, USERDATA_EVERY_BOOT, USERDATA_RUN,
		  false, true, USERDATA_KEEP },
		{ USERDATA_APPLIED, USERDATA_APPLY, USERDATA_BOOT_NO_CLOUD_INIT, USERDATA_EVERY_BOOT, 0, false, true,
		  USERDATA_RUN_NOW },
		{ USERDATA_APPLIED, USERDATA_APPLY, USERDATA_BOOT_NO_CLOUD_INIT, USERDATA_EVERY_BOOT, 0, false, false,
		  USERDATA_KEEP },
		{ USERDATA_APPLIED, USERDATA_APPLY, USERDATA_BOOT_CLOUD_INIT_RUNS, USERDATA_EVERY_BOOT, 0, false, true,
		  USERDATA_WAIT },
		{ USERDATA_APPLIED, USERDATA_REPORT, USERDATA_BOOT_NO_CLOUD_INIT, USERDATA_EVERY_BOOT, 0, false, true,
		  USERDATA_KEEP },
		{ USERDATA_CLOUD_INIT, USERDATA_APPLY, USERDATA_BOOT_CLOUD_INIT_OVER, USERDATA_EVERY_BOOT, 0, false,
		  true, USERDATA_RUN_NOW },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_(memory_done) struct userdata_memory m = { .looked = 1 };
		struct userdata_settings s = settings(cases[i].action);
		struct userdata_facts f = facts(SHA_A, cases[i].boot);
		struct userdata_revision *r = add(&m, SHA_A, cases[i].state);

		r->ordered = cases[i].ordered;
		s.run_policy = cases[i].run_policy;
		s.baseline = cases[i].baseline;
		f.boot_id = cases[i].other_boot ? "other" : "boot";
		if (userdata_decide(&m, &s, &f) != cases[i].next)
			fail_msg("case %zu: %d", i, userdata_decide(&m, &s, &f));
		assert_int_equal(userdata_decide(&m, NULL, &f), USERDATA_KEEP);
		f.sha256 = NULL;
		assert_int_equal(userdata_decide(&m, &s, &f), USERDATA_KEEP);
	}
}

/* ---- parts ---- */

static void test_which_parts_are_run(void **state)
{
	static const struct {
		const char *type, *problem;
		int kind;
		bool every_kind, cloud_init;
		const char *why; /* NULL: it is run */
	} cases[] = {
		{ "text/x-shellscript", NULL, USERDATA_KIND_SHELLSCRIPT, false, true, NULL },
		{ "text/x-shellscript", "it has no #! line", USERDATA_KIND_SHELLSCRIPT, true, false,
		  "it has no #! line" },
		{ "text/x-shellscript-per-boot", NULL, USERDATA_KIND_SHELLSCRIPT, false, false, NULL },
		{ "text/x-shellscript-per-boot", NULL, USERDATA_KIND_SHELLSCRIPT, false, true,
		  "run by cloud-init at this boot" },
		{ "text/cloud-boothook", NULL, USERDATA_KIND_BOOTHOOK, false, false,
		  "userData.parts does not name \"boothook\"" },
		{ "text/cloud-boothook", NULL, USERDATA_KIND_BOOTHOOK, true, false, NULL },
		{ "text/cloud-boothook", NULL, USERDATA_KIND_BOOTHOOK, true, true, "run by cloud-init at this boot" },
		{ "text/x-include-url", NULL, USERDATA_KIND_INCLUDE, false, false,
		  "userData.parts does not name \"include\"" },
		{ USERDATA_SETTINGS_TYPE, NULL, USERDATA_KIND_SETTINGS, false, false,
		  "userData.parts does not name \"settings\"" },
		{ USERDATA_SETTINGS_TYPE, NULL, USERDATA_KIND_SETTINGS, true, false, NULL },
		{ "text/cloud-config", NULL, USERDATA_KIND_CLOUD_CONFIG, true, false,
		  "left to cloud-init, which applies it at the first boot of an instance" },
		{ "text/part-handler", NULL, USERDATA_KIND_OTHER, true, false, "of a type that is not supported" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct userdata_settings s = settings(USERDATA_APPLY);
		struct userdata_item item = { .type = (char *)(uintptr_t)cases[i].type,
					      .kind = cases[i].kind,
					      .problem = (char *)(uintptr_t)cases[i].problem };
		const char *why = NULL;

		if (cases[i].every_kind)
			s.parts = (struct jd_list){ all_parts, ARRAY_SIZE(all_parts) };
		assert_int_equal(userdata_part_due(&item, &s, cases[i].cloud_init, &why), !cases[i].why);
		if (cases[i].why)
			assert_string_equal(why, cases[i].why);
	}
}

static void test_settings_need_apply(void **state)
{
	struct userdata_settings s = settings(USERDATA_REPORT);
	struct userdata_item item = { .type = (char[]){ USERDATA_SETTINGS_TYPE }, .kind = USERDATA_KIND_SETTINGS };
	const char *why;

	(void)state;
	s.parts = (struct jd_list){ all_parts, ARRAY_SIZE(all_parts) };
	assert_false(userdata_part_due(&item, &s, false, &why));
	assert_string_equal(why, "settings are taken with userData.action \"apply\" only");
}

static void test_after_a_result(void **state)
{
	int64_t codes[] = { 75 };
	static const struct {
		int end;
		int64_t exit_code, attempts;
		bool coded, attached;
		enum userdata_after after;
		bool patient;
		const char *started_at;
	} cases[] = {
		{ JOB_SUCCEEDED, 0, 1, false, false, USERDATA_ENDED_WELL },
		{ JOB_EXITED, 1, 2, false, false, USERDATA_TRY_AGAIN },
		{ JOB_EXITED, 1, 3, false, false, USERDATA_ENDED_BADLY },
		{ JOB_EXITED, 75, 1, true, false, USERDATA_TRY_AGAIN },
		{ JOB_EXITED, 1, 1, true, false, USERDATA_ENDED_BADLY },
		{ JOB_TIMED_OUT, 0, 1, true, false, USERDATA_ENDED_BADLY },
		{ JOB_TIMED_OUT, 0, 1, false, false, USERDATA_TRY_AGAIN },
		{ JOB_INTERRUPTED, 0, 1, false, false, USERDATA_TRY_AGAIN },
		{ JOB_NOT_STARTED, 0, 9, false, true, USERDATA_BEGIN_AGAIN },
		{ JOB_NOT_STARTED, 0, 9, false, false, USERDATA_ENDED_BADLY },
		{ JOB_NOT_STARTED, 0, 9, false, false, USERDATA_BEGIN_AGAIN, true },
		{ JOB_NOT_STARTED, 0, 9, false, false, USERDATA_ENDED_BADLY, true, "2026-11-20T10:00:00Z" }, /* by the runner */
		{ JOB_INTERRUPTED, 0, 9, false, false, USERDATA_ENDED_BADLY, true },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct userdata_settings s = settings(USERDATA_APPLY);
		struct userdata_run run = { .attempts = cases[i].attempts };
		struct job_result r = { .end = cases[i].end, .exit_code = cases[i].exit_code,
					.started_at = (char *)(uintptr_t)cases[i].started_at };

		s.retry.times = 2;
		if (cases[i].coded)
			s.retry.on_exit_codes = (struct jd_list){ codes, 1 };
		assert_int_equal(userdata_after(&s, &run, &r, cases[i].attached, cases[i].patient), cases[i].after);
	}
}

/* ---- the memory ---- */

static void make_runs(struct userdata_revision *r, size_t n, const char *text)
{
	struct userdata_parts p = { .items = { calloc(n, sizeof(struct userdata_item)), n } };
	struct userdata_settings s = settings(USERDATA_APPLY);
	struct userdata_item *items = p.items.items;

	for (size_t i = 0; i < n; i++) {
		items[i].type = strdup("text/x-shellscript");
		items[i].name = strdup(text);
	}
	assert_int_equal(userdata_runs_make(r, &p, &s, false), 0);
	userdata_parts_done(&p);
}

static void test_end_of_a_revision(void **state)
{
	_cleanup_(memory_done) struct userdata_memory m = { 0 };
	struct userdata_revision *r = add(&m, SHA_A, USERDATA_RUNNING);
	struct userdata_run *runs;

	(void)state;
	make_runs(r, 2, "one");
	runs = r->runs.items;
	runs[0].state = USERDATA_RUN_DONE;
	runs[1].state = USERDATA_RUN_FAILED;
	assert_ptr_equal(userdata_memory_running(&m), r);
	assert_int_equal(userdata_revision_end(&m, r, NOW), 0);
	assert_int_equal(r->state, USERDATA_FAILED);
	assert_string_equal(m.failed, SHA_A);
	assert_null(m.applied);
	r = add(&m, SHA_B, USERDATA_RUNNING);
	make_runs(r, 1, "two");
	((struct userdata_run *)r->runs.items)->state = USERDATA_RUN_SKIPPED;
	assert_int_equal(userdata_revision_end(&m, r, NOW), 0);
	assert_int_equal(r->state, USERDATA_APPLIED);
	assert_string_equal(m.applied, SHA_B);
	/* What has failed before is over now. */
	assert_null(m.failed);
}

static void test_memory_round_trip_and_limits(void **state)
{
	_cleanup_(memory_done) struct userdata_memory m = { .looked = 3, .jobs = 7 }, again = { 0 };
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_USER_DATA_MEMORY);
	char sha256[65], name[90];
	struct error e;

	(void)state;
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(str_set(&m.applied, SHA_A), 0);
	(void)add(&m, SHA_A, USERDATA_APPLIED);
	for (int i = 0; i < 2 * LIMIT_USER_DATA_HISTORY; i++) {
		(void)snprintf(sha256, sizeof(sha256), "%064d", i);
		make_runs(add(&m, sha256, USERDATA_FAILED), LIMIT_USER_DATA_PARTS, name);
	}
	assert_int_equal(m.revisions.n, LIMIT_USER_DATA_HISTORY);
	/* What the machine has is never forgotten. */
	assert_non_null(userdata_memory_find(&m, SHA_A));
	/* Far too much for the record: the oldest give up their parts, the newest does not. */
	assert_int_equal(userdata_memory_encode(&m, &text), 0);
	assert_true(text.len <= LIMIT_USER_DATA_MEMORY);
	assert_int_equal(
		jd_decode_document(text.data, text.len, "memory", LIMIT_RECORD, &userdata_memory_type, &again, &e), 0);
	assert_int_equal(again.revisions.n, LIMIT_USER_DATA_HISTORY);
	assert_int_equal(((struct userdata_revision *)again.revisions.items)[0].runs.n, LIMIT_USER_DATA_PARTS);
	assert_string_equal(((struct userdata_revision *)again.revisions.items)[0].sha256, sha256);
	assert_int_equal(again.looked, 3);
	assert_int_equal(again.jobs, 7);
	userdata_memory_trim(&again, 0);
	for (size_t i = 0; i < again.revisions.n; i++)
		assert_int_equal(((struct userdata_revision *)again.revisions.items)[i].runs.n, 0);
}

/* ---- sentences ---- */

static void says(const struct userdata_memory *m, int action, const char *sha256, struct userdata_progress p,
		 enum status_level level, const char *sentence)
{
	_cleanup_buf_ struct buf out = BUF_INIT(LIMIT_STATUS_MESSAGE);
	struct userdata_settings s = settings(action);
	int code = 0;

	assert_int_equal(userdata_tell(m, &s, sha256, &p, STATUS_SUCCESS, 100 * USEC_PER_SEC, &out, &code), level);
	assert_string_equal(buf_str(&out), sentence);
}

static void test_sentences(void **state)
{
	_cleanup_(memory_done) struct userdata_memory m = { 0 };
	const struct userdata_progress idle = { .phase = USERDATA_IDLE };
	struct userdata_revision *r;

	(void)state;
	says(&m, USERDATA_APPLY, SHA_A,
	     (struct userdata_progress){ .phase = USERDATA_WAITING_CLOUD_INIT, .since_boot = 90 * USEC_PER_SEC },
	     STATUS_TRANSITIONING, "; waiting for cloud-init to finish, for 10 s");
	r = add(&m, SHA_A, USERDATA_ADOPTED);
	says(&m, USERDATA_APPLY, SHA_A, idle, STATUS_SUCCESS,
	     "; it was there at the first look: the baseline, which is not run");
	r->state = USERDATA_CLOUD_INIT;
	says(&m, USERDATA_REPORT, SHA_A, idle, STATUS_SUCCESS, "; cloud-init has applied it at the first boot");
	r->state = USERDATA_PENDING;
	says(&m, USERDATA_REPORT, SHA_A, idle, STATUS_SUCCESS, "; not applied: userData.action is \"report\"");
	says(&m, USERDATA_APPLY, SHA_A,
	     (struct userdata_progress){
		     .phase = USERDATA_FETCHING, .problem = "HTTP status 404", .next_boot = 104 * USEC_PER_SEC },
	     STATUS_TRANSITIONING, "; fetching what it includes: HTTP status 404; next try in 4 s");
	make_runs(r, 2, "setup.sh");
	((struct userdata_run *)r->runs.items)[0].state = USERDATA_RUN_DONE;
	((struct userdata_run *)r->runs.items)[1].state = USERDATA_RUN_FAILED;
	assert_int_equal(str_set(&((struct userdata_run *)r->runs.items)[1].message, "exit code 7 after 3 s"), 0);
	assert_int_equal(userdata_revision_end(&m, r, NOW), 0);
	says(&m, USERDATA_APPLY, SHA_A, idle, STATUS_ERROR,
	     "; it failed at 2025-11-20T10:00:00Z: 1 of 2 parts failed; it is not tried again until it changes or `evenkeel userdata "
	     "apply` says so\npart 1 (setup.sh, text/x-shellscript): done\npart 2 (setup.sh, text/x-shellscript): failed: exit code 7 "
	     "after 3 s");
	r = add(&m, SHA_B, USERDATA_PENDING);
	says(&m, USERDATA_APPLY, SHA_B, idle, STATUS_TRANSITIONING,
	     "; to be applied\nfailed before: revision aaaaaaaaaaaa: 1 of 2 parts failed");
	make_runs(r, 1, "a");
	((struct userdata_run *)r->runs.items)[0].state = USERDATA_RUN_DONE;
	assert_int_equal(userdata_revision_end(&m, r, NOW), 0);
	says(&m, USERDATA_APPLY, SHA_B, (struct userdata_progress){ .settings_problem = "user data, part 1: no" },
	     STATUS_WARNING,
	     "; applied at 2025-11-20T10:00:00Z: 1 part\npart 1 (a, text/x-shellscript): done\n"
	     "its settings are not in force: user data, part 1: no");
	says(&m, USERDATA_APPLY, NULL, idle, STATUS_SUCCESS,
	     "\nlast applied: revision bbbbbbbbbbbb at 2025-11-20T10:00:00Z");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_look),
		cmocka_unit_test(test_known_revisions),
		cmocka_unit_test(test_which_parts_are_run),
		cmocka_unit_test(test_settings_need_apply),
		cmocka_unit_test(test_after_a_result),
		cmocka_unit_test(test_end_of_a_revision),
		cmocka_unit_test(test_memory_round_trip_and_limits),
		cmocka_unit_test(test_sentences),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
