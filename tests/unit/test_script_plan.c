/* The script plan, cell by cell: policy by state by key, content and boot; and what follows from each end of a job. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/buf.h"
#include "agent/base/limits.h"
#include "agent/core/exit_codes.h"
#include "agent/core/script_plan.h"
#include "agent/core/script_policy.h"

enum { KEY = 1, CONTENT = 2, BOOT = 4 }; /* what is the same as in the record */

/* One row for each policy and state: the action for the eight combinations of what is the same. */
static const struct {
	int policy, state;
	char actions[9]; /* R run, A attach, K keep, S skip; index: KEY | CONTENT | BOOT */
} rows[] = {
	{ RUN_ONCE_PER_SEQUENCE, SCRIPT_PENDING, "RRRRRRRR" }, { RUN_ONCE_PER_SEQUENCE, SCRIPT_RUNNING, "AAAAAAAA" },
	{ RUN_ONCE_PER_SEQUENCE, SCRIPT_DONE, "RKRKRKRK" },    { RUN_ONCE_PER_SEQUENCE, SCRIPT_FAILED, "RKRKRKRK" },
	{ RUN_ONCE_PER_SEQUENCE, SCRIPT_NOT_RUN, "RKRKRKRK" },

	{ RUN_ONCE_PER_CONTENT, SCRIPT_PENDING, "RRRRRRRR" },  { RUN_ONCE_PER_CONTENT, SCRIPT_RUNNING, "AAAAAAAA" },
	{ RUN_ONCE_PER_CONTENT, SCRIPT_DONE, "RKSKRKSK" },     { RUN_ONCE_PER_CONTENT, SCRIPT_FAILED, "RKRKRKRK" },
	{ RUN_ONCE_PER_CONTENT, SCRIPT_NOT_RUN, "RKRKRKRK" },

	{ RUN_EVERY_BOOT, SCRIPT_PENDING, "RRRRRRRR" },	       { RUN_EVERY_BOOT, SCRIPT_RUNNING, "AAAAAAAA" },
	{ RUN_EVERY_BOOT, SCRIPT_DONE, "RRRRRKRK" },	       { RUN_EVERY_BOOT, SCRIPT_FAILED, "RRRRRKRK" },
	{ RUN_EVERY_BOOT, SCRIPT_NOT_RUN, "RRRRRKRK" },
};

static void test_every_cell(void **state)
{
	static const char letters[] = { [SCRIPT_RUN] = 'R', [SCRIPT_ATTACH] = 'A', [SCRIPT_KEEP] = 'K', [SCRIPT_SKIP] = 'S' };

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		for (unsigned same = 0; same < 8; same++) {
			const struct script_settings s = { .run_policy = rows[i].policy };
			const struct script_run run = { .state = rows[i].state,
							.key = (char[]){ "k" },
							.content = (char[]){ "c" },
							.boot_id = (char[]){ "b" } };
			char got = letters[script_decide(&s, &run, same & KEY ? "k" : "x", same & CONTENT ? "c" : "x",
							 same & BOOT ? "b" : "x")];

			if (got != rows[i].actions[same])
				fail_msg("policy %d, state %d, same %u: expected %c, got %c", rows[i].policy, rows[i].state, same,
					 rows[i].actions[same], got);
		}
}

static void test_never_seen(void **state)
{
	(void)state;
	for (int policy = RUN_ONCE_PER_SEQUENCE; policy <= RUN_EVERY_BOOT; policy++) {
		const struct script_settings s = { .run_policy = policy };

		assert_int_equal(script_decide(&s, NULL, "k", "c", "b"), SCRIPT_RUN);
	}
}

static int64_t code_7[] = { 7 };

static const struct ending {
	const char *what;
	int end;
	int64_t exit_code;
	bool attached, rebooted, fleeting, began; /* began: the job has told a start of its own */
	int64_t attempts, times;
	bool only_7;
	int on_reboot, policy;
	int64_t reboot_code, reboots, reruns, code;
	enum script_next next;
} endings[] = {
	{ "success", JOB_SUCCEEDED, .began = true, .attempts = 1, .next = SCRIPT_ENDED_WELL },
	{ "failure, no retry", JOB_EXITED, 7, .began = true, .attempts = 1, .next = SCRIPT_ENDED_BADLY },
	{ "failure, first of two retries", JOB_EXITED, 7, .began = true, .attempts = 1, .times = 2, .next = SCRIPT_TRY_AGAIN },
	{ "failure, second of two retries", JOB_EXITED, 7, .began = true, .attempts = 2, .times = 2, .next = SCRIPT_TRY_AGAIN },
	{ "failure, retries used up", JOB_EXITED, 7, .began = true, .attempts = 3, .times = 2, .next = SCRIPT_ENDED_BADLY },
	{ "listed code", JOB_EXITED, 7, .began = true, .attempts = 1, .times = 1, .only_7 = true, .next = SCRIPT_TRY_AGAIN },
	{ "other code", JOB_EXITED, 8, .began = true, .attempts = 1, .times = 1, .only_7 = true, .next = SCRIPT_ENDED_BADLY },
	{ "signal, codes listed", JOB_SIGNALED, .began = true, .attempts = 1, .times = 1, .only_7 = true,
	  .next = SCRIPT_ENDED_BADLY },
	{ "signal", JOB_SIGNALED, .began = true, .attempts = 1, .times = 1, .next = SCRIPT_TRY_AGAIN },
	{ "timeout", JOB_TIMED_OUT, .began = true, .attempts = 1, .times = 1, .next = SCRIPT_TRY_AGAIN },
	{ "stopped", JOB_STOPPED, .began = true, .attempts = 1, .times = 9, .next = SCRIPT_ENDED_BADLY },
	{ "interrupted in this boot", JOB_INTERRUPTED, .attached = true, .began = true, .attempts = 1, .times = 9,
	  .on_reboot = ON_REBOOT_RERUN, .next = SCRIPT_ENDED_BADLY },
	{ "reboot, fail", JOB_INTERRUPTED, .attached = true, .rebooted = true, .began = true, .next = SCRIPT_ENDED_BADLY },
	{ "reboot, rerun", JOB_INTERRUPTED, .attached = true, .rebooted = true, .began = true, .on_reboot = ON_REBOOT_RERUN,
	  .next = SCRIPT_BEGIN_AGAIN },
	{ "reboot, rerun for the last time", JOB_INTERRUPTED, .attached = true, .rebooted = true, .began = true,
	  .on_reboot = ON_REBOOT_RERUN, .reruns = SCRIPT_RERUNS_MAX - 1, .next = SCRIPT_BEGIN_AGAIN },
	{ "reboot, rerun too often", JOB_INTERRUPTED, .attached = true, .rebooted = true, .began = true,
	  .on_reboot = ON_REBOOT_RERUN, .reruns = SCRIPT_RERUNS_MAX, .next = SCRIPT_ENDED_BADLY },
	{ "shutdown, rerun", JOB_STOPPED, .attached = true, .rebooted = true, .began = true, .on_reboot = ON_REBOOT_RERUN,
	  .next = SCRIPT_BEGIN_AGAIN },
	{ "shutdown, fail", JOB_STOPPED, .attached = true, .rebooted = true, .began = true, .next = SCRIPT_ENDED_BADLY },
	{ "reboot, every boot", JOB_INTERRUPTED, .attached = true, .rebooted = true, .began = true, .policy = RUN_EVERY_BOOT,
	  .next = SCRIPT_BEGIN_AGAIN },
	{ "ended well before the reboot", JOB_SUCCEEDED, .attached = true, .rebooted = true, .began = true,
	  .next = SCRIPT_ENDED_WELL },
	{ "daemon killed before the start", JOB_NOT_STARTED, .attached = true, .next = SCRIPT_BEGIN_AGAIN },
	{ "known to the boot before only, fail", JOB_NOT_STARTED, .attached = true, .rebooted = true, .fleeting = true,
	  .next = SCRIPT_ENDED_BADLY },
	{ "known to the boot before only, rerun", JOB_NOT_STARTED, .attached = true, .rebooted = true, .fleeting = true,
	  .on_reboot = ON_REBOOT_RERUN, .next = SCRIPT_BEGIN_AGAIN },
	{ "known to this boot only", JOB_NOT_STARTED, .attached = true, .fleeting = true, .next = SCRIPT_BEGIN_AGAIN },
	{ "no right to a file yet", JOB_NOT_STARTED, .began = true, .attempts = 1, .times = 1, .code = CODE_IDENTITY_DENIED,
	  .next = SCRIPT_TRY_AGAIN },
	{ "no right to a file, codes listed", JOB_NOT_STARTED, .began = true, .attempts = 1, .times = 1, .only_7 = true,
	  .code = CODE_IDENTITY_DENIED, .next = SCRIPT_ENDED_BADLY },
	{ "not allowed by the policy", JOB_NOT_STARTED, .began = true, .attempts = 1, .times = 1, .code = CODE_POLICY_REFUSED,
	  .next = SCRIPT_ENDED_BADLY },
	{ "could not be run", JOB_NOT_STARTED, .began = true, .times = 3, .next = SCRIPT_ENDED_BADLY },
	{ "could not be run, told after a restart", JOB_NOT_STARTED, .attached = true, .began = true, .next = SCRIPT_ENDED_BADLY },
	{ "could not be started", JOB_NOT_STARTED, .next = SCRIPT_ENDED_BADLY },
	{ "asks for a reboot", JOB_EXITED, 194, .began = true, .reboot_code = 194, .reboots = 2, .next = SCRIPT_REBOOT },
	{ "has asked for a reboot, and there was one", JOB_EXITED, 194, .attached = true, .rebooted = true, .began = true,
	  .reboot_code = 194, .next = SCRIPT_ENDED_WELL },
	{ "asks once too often", JOB_EXITED, 194, .began = true, .reboot_code = 194, .reboots = 3, .next = SCRIPT_ENDED_BADLY },
	{ "success with a reboot code set", JOB_SUCCEEDED, .began = true, .reboot_code = 194, .next = SCRIPT_ENDED_WELL },
};

static void test_endings(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
		const struct ending *e = &endings[i];
		const struct script_settings s = { .run_policy = e->policy,
						   .on_reboot = e->on_reboot,
						   .reboot_exit_code = e->reboot_code,
						   .files.n = 1,
						   .retry = { .times = e->times,
							      .on_exit_codes = { code_7, e->only_7 ? 1 : 0 } } };
		const struct script_run run = { .boot_id = (char[]){ "b" }, .attempts = e->attempts, .reruns = e->reruns,
						.fleeting = e->fleeting };
		const struct job_result r = { .end = e->end,
					      .exit_code = e->exit_code,
					      .code = e->code,
					      .started_at = e->began ? (char[]){ "2026-11-20T08:00:00Z" } : NULL };
		enum script_next got = script_after(&s, &run, &r, e->attached, e->reboots, e->rebooted ? "c" : "b");

		if (got != e->next)
			fail_msg("%s: expected %d, got %d", e->what, e->next, got);
	}
}

static void test_nobody_asks(void **state)
{
	const struct script_run run = { .boot_id = (char[]){ "b" } };
	const struct job_result well = { .end = JOB_SUCCEEDED }, badly = { .end = JOB_INTERRUPTED };

	(void)state;
	assert_int_equal(script_after(NULL, &run, &well, true, 0, "b"), SCRIPT_ENDED_WELL);
	assert_int_equal(script_after(NULL, &run, &badly, true, 0, "c"), SCRIPT_ENDED_BADLY);
}

/* ---- content ---- */

static void hash(const struct settings *s, const struct script_settings *script, char out[65])
{
	assert_int_equal(script_content_hash(s, script, out, NULL), 0);
}

static void test_content(void **state)
{
	char *ab[] = { (char[]){ "a" }, (char[]){ "b" } }, *a_b[] = { (char[]){ "ab" } };
	struct settings_secret secret = { (char[]){ "n" }, (char[]){ "echo" } };
	struct settings settings = { .secrets = { [DOOR_EXTENSION] = { &secret, 1 } } };
	struct script_variable variable = { .name = (char[]){ "P" }, .value = { .ref = (char[]){ "n" } } };
	struct script_file file = { .uri = { .text = (char[]){ "https://h/a?sig=1" } }, .name = (char[]){ "a" } };
	struct script_settings s = { .name = (char[]){ "s" }, .command_to_execute = { .text = (char[]){ "echo" } } };
	char first[65], second[65];

	(void)state;
	hash(&settings, &s, first);
	s.run_policy = RUN_EVERY_BOOT;
	hash(&settings, &s, second);
	assert_string_equal(first, second); /* how it is run is not what it is */
	s.command_to_execute.text = NULL;
	s.command_to_execute.ref = (char[]){ "n" };
	hash(&settings, &s, second);
	assert_string_equal(first, second); /* nor where its text stood */
	secret.value = (char[]){ "echo 2" };
	hash(&settings, &s, second);
	assert_string_not_equal(first, second);
	s.arguments = (struct jd_list){ ab, 2 };
	hash(&settings, &s, first);
	s.arguments = (struct jd_list){ a_b, 1 };
	hash(&settings, &s, second);
	assert_string_not_equal(first, second);
	hash(&settings, &s, first);
	s.environment = (struct jd_list){ &variable, 1 };
	hash(&settings, &s, second);
	assert_string_not_equal(first, second);
	secret.value = (char[]){ "echo 3" };
	s.command_to_execute = (struct jd_secretable){ .text = (char[]){ "echo" } };
	hash(&settings, &s, first);
	secret.value = (char[]){ "echo 4" };
	hash(&settings, &s, second);
	assert_string_not_equal(first, second); /* a parameter that is a secret is one */
	s.files = (struct jd_list){ &file, 1 };
	hash(&settings, &s, first);
	file.uri.text = (char[]){ "https://h/a?sig=2" };
	hash(&settings, &s, second);
	assert_string_equal(first, second);
	file.uri.text = (char[]){ "https://h/b?sig=2" };
	hash(&settings, &s, second);
	assert_string_not_equal(first, second);
}

/* ---- the record ---- */

static void test_memory(void **state)
{
	struct script_memory m = { .key = strdup("k"), .reboots = 2, .jobs = 9 }, back = { 0 };
	struct script_settings kept = { .name = (char[]){ "kept" } };
	const struct custom_script_settings section = { .scripts = { &kept, 1 } };
	struct buf text = BUF_INIT(LIMIT_RECORD);
	struct script_run *run;

	(void)state;
	assert_non_null(script_memory_get(&m, "gone"));
	run = script_memory_get(&m, "runs");
	run->state = SCRIPT_RUNNING;
	run = script_memory_get(&m, "kept");
	run->state = SCRIPT_NOT_RUN;
	run->message = strdup("why \"so\"\n");
	assert_ptr_equal(script_memory_get(&m, "kept"), run);
	script_memory_prune(&m, &section);
	assert_null(script_memory_find(&m, "gone"));
	assert_non_null(script_memory_find(&m, "runs"));

	assert_int_equal(script_memory_add_by_hand(&m, "a.sh", "hand-a-1"), 0);
	assert_int_equal(script_memory_add_by_hand(&m, "a.sh", "hand-a-2"), 0);
	script_memory_drop_by_hand(&m, "hand-a-1");
	script_memory_drop_by_hand(&m, "hand-a-1");
	assert_int_equal(jd_encode(&script_memory_type, &m, false, &text), 0);
	assert_int_equal(jd_decode_document(text.data, text.len, "record", LIMIT_RECORD, &script_memory_type, &back, NULL), 0);
	assert_string_equal(back.key, "k");
	assert_int_equal(back.jobs, 9);
	assert_int_equal(back.runs.n, 2);
	assert_int_equal(back.by_hand.n, 1);
	assert_string_equal(script_memory_by_hand(&back, "hand-a-2")->name, "a.sh");
	assert_null(script_memory_by_hand(&back, "hand-a-1"));
	for (int i = 1; i < LIMIT_RUNS_BY_HAND; i++)
		assert_int_equal(script_memory_add_by_hand(&back, "b", "hand-b"), 0);
	assert_int_equal(script_memory_add_by_hand(&back, "b", "hand-b"), -EBUSY);
	run = script_memory_find(&back, "kept");
	assert_int_equal(run->state, SCRIPT_NOT_RUN);
	assert_string_equal(run->message, "why \"so\"\n");
	script_memory_prune(&back, NULL);
	assert_int_equal(back.runs.n, 1);
	buf_done(&text);
	jd_free(&script_memory_type, &m);
	jd_free(&script_memory_type, &back);
}

/* ---- the machine's policy ---- */

static int policy(const char *text, struct script_policy *p)
{
	struct error e = ERROR_INIT;

	*p = (struct script_policy){ 0 };
	return script_policy_decode(text, strlen(text), "policy", p, &e);
}

static void test_policy(void **state)
{
	static const char *const wrong[] = { "", "[]", "{\"allowedScripts\":\"x\"}", "{\"allowed\":[]}", "{\"requireSigning\":1}",
					     "{\"allowedScripts\":[],\"AllowedCommandToExecute\":[]}" };
	struct script_policy p;
	struct error e = ERROR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		if (policy(wrong[i], &p) >= 0)
			fail_msg("accepted: %s", wrong[i]);
	assert_int_equal(policy("{}", &p), 0);
	assert_int_equal(script_policy_check(&p, "anything", &e), 0);
	assert_int_equal(policy("{\"AllowedCommandToExecute\":[\"date\",\"sh a.sh\"],\"AllowedScripts\":[\"00\"]}", &p), 0);
	assert_int_equal(script_policy_check(&p, "sh a.sh", &e), 0);
	assert_int_equal(script_policy_check(&p, NULL, &e), 0);
	assert_int_equal(script_policy_check(&p, "sh a.sh ", &e), -EKEYREJECTED);
	assert_int_equal(p.scripts.n, 1);
	jd_free(&script_policy_type, &p);
	assert_int_equal(policy("{\"requireSigning\":true,\"allowedCommandToExecute\":[\"date\"]}", &p), 0);
	assert_int_equal(script_policy_check(&p, "date", &e), -EKEYREJECTED);
	assert_int_equal(script_policy_check(&p, NULL, &e), -EKEYREJECTED);
	jd_free(&script_policy_type, &p);
}

/* ---- the documents of jobs ---- */

static int decode_job(const char *text)
{
	struct job j;
	struct error e;
	int r = job_decode(text, strlen(text), &j, &e);

	if (r >= 0)
		jd_free(&job_type, &j);
	return r;
}

static void test_job_documents(void **state)
{
	static const char *const wrong[] = {
		"{\"format\":1,\"id\":\"a\",\"kind\":\"command\"}",
		"{\"format\":2,\"id\":\"a\",\"kind\":\"script\"}",
		"{\"format\":1,\"id\":\"../a\",\"kind\":\"script\"}",
		"{\"format\":1,\"id\":\"a\",\"kind\":\"dance\"}",
		"{\"format\":1,\"id\":\"a\",\"kind\":\"hooks\"}",
		"{\"format\":1,\"id\":\"a\",\"kind\":\"install\",\"directory\":\"/x\"}",
		"{\"format\":1,\"id\":\"a\",\"kind\":\"install\",\"directory\":\"/x\",\"files\":[{\"name\":\"../y\"}]}",
		"{\"format\":1,\"id\":\"a\",\"kind\":\"install\",\"directory\":\"/x\",\"version\":\"a/b\",\"files\":[{\"name\":\"y\"}]}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		if (decode_job(wrong[i]) >= 0)
			fail_msg("accepted: %s", wrong[i]);
	assert_int_equal(decode_job("{\"format\":1,\"id\":\"a\",\"kind\":\"script\",\"new\":1}"), 0);
	assert_true(job_id_valid("cs-a-0011aaff-3"));
	assert_false(job_id_valid(""));
	assert_false(job_id_valid(".a"));
	assert_false(job_id_valid("A"));
}

static void test_phrases(void **state)
{
	char out[128];

	(void)state;
	assert_string_equal(job_result_phrase(&(struct job_result){ .end = JOB_EXITED, .exit_code = 7 }, out), "exit code 7");
	assert_string_equal(job_result_phrase(&(struct job_result){ .end = JOB_SIGNALED, .signal = 11 }, out),
			    "killed by SIGSEGV (11)");
	assert_string_equal(job_result_phrase(&(struct job_result){ .end = JOB_SIGNALED, .signal = 40 }, out),
			    "killed by signal (40)");
	assert_string_equal(job_result_phrase(&(struct job_result){ .end = JOB_TIMED_OUT, .duration_msec = 60100 }, out),
			    "timed out after 60 s");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_cell),     cmocka_unit_test(test_never_seen), cmocka_unit_test(test_endings),
		cmocka_unit_test(test_nobody_asks),    cmocka_unit_test(test_content),	  cmocka_unit_test(test_memory),
		cmocka_unit_test(test_policy),	       cmocka_unit_test(test_job_documents), cmocka_unit_test(test_phrases),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
