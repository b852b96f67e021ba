/*
 * Jobs as transient units and calls to systemd, tried against a real one: run as root inside a booted machine.
 * "probe_executor" makes all checks and says "ok NAME" for each; "probe_executor run ID" is the runner it starts.
 * It ends with 0 only when every check held.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/str.h"
#include "agent/io/bus.h"
#include "agent/io/executor.h"
#include "agent/io/loop.h"

#define DIR "/run/probe"

#define CHECK(e)                                                                \
	do {                                                                    \
		if (!(e)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #e); \
			exit(1);                                                \
		}                                                               \
	} while (0)

/* ---- the runner ---- */

static void put(const char *name, const char *text)
{
	_cleanup_free_ char *path = str_format(DIR "/%s", name);
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

	if (fd < 0 || fs_write_all(fd, text, strlen(text)) < 0)
		_exit(97);
}

static void on_polite(int signo)
{
	(void)signo;
	_exit(5);
}

static void leave_child(const char *id, bool deaf)
{
	_cleanup_free_ char *name = str_format("%s-child", id), *text = NULL;
	pid_t pid = fork();

	if (pid == 0) {
		if (deaf)
			(void)signal(SIGTERM, SIG_IGN);
		(void)sleep(60);
		_exit(0);
	}
	text = str_format("%d\n", pid);
	put(name, text);
}

static int confined(void)
{
	_cleanup_buf_ struct buf b = BUF_INIT(16384);

	if (fs_read("/proc/self/status", 16384, &b, NULL) < 0)
		return 10;
	if (!strstr(buf_str(&b), "CapBnd:\t0000000000000001\n") || !strstr(buf_str(&b), "NoNewPrivs:\t1\n"))
		return 11;
	if (fs_write("/etc/probe-confined", "x", 1, 0600, 0, NULL) != -EROFS)
		return 12;
	return fs_write(DIR "/inside", "x", 1, 0600, 0, NULL) < 0 ? 13 : 0;
}

static int run(const char *id)
{
	_cleanup_free_ char *began = str_format("began-%s", id);

	if (!str_equal(id, "confined"))
		put(began, "x");
	if (str_equal(id, "seven"))
		return 7;
	if (str_equal(id, "segv")) {
		(void)signal(SIGSEGV, SIG_DFL); /* sanitizers have a handler of their own */
		(void)raise(SIGSEGV);
	}
	if (str_equal(id, "confined"))
		return confined();
	if (str_equal(id, "environment"))
		return str_equal(getenv("EVENKEEL_PROBE"), "a $b %h") && !getenv("SECRET") ? 0 : 1;
	if (str_starts(id, "leaves")) {
		leave_child(id, false);
		return 0;
	}
	if (str_equal(id, "polite") || str_equal(id, "untidy")) {
		(void)signal(SIGTERM, on_polite);
		if (str_equal(id, "untidy"))
			leave_child(id, true);
		put(id, "ready");
		(void)sleep(60);
	}
	if (str_equal(id, "stubborn")) {
		leave_child(id, true);
		(void)signal(SIGTERM, SIG_IGN);
		put(id, "ready");
		for (;;)
			(void)sleep(60);
	}
	if (str_starts(id, "slow")) {
		usleep(1500000);
		return 6;
	}
	if (str_starts(id, "long"))
		(void)sleep(60);
	return 0;
}

/* ---- the checks' world ---- */

struct world {
	struct loop *loop;
	struct bus *bus;
	struct executor *executor;
	struct executor_job *job;
	struct loop_timer *limit, *pause;
	const char *binary;
	int calls;
	struct executor_outcome last;
	char result[40], detail[400];
};

static void on_limit(void *userdata)
{
	struct world *w = userdata;

	loop_exit(w->loop, 9);
}

static void on_pause(void *userdata)
{
	struct world *w = userdata;

	loop_exit(w->loop, 4);
}

static void on_done(const struct executor_outcome *o, void *userdata)
{
	struct world *w = userdata;

	w->calls++;
	w->last = *o;
	(void)snprintf(w->result, sizeof(w->result), "%s", o->result ? o->result : "");
	(void)snprintf(w->detail, sizeof(w->detail), "%s", o->detail ? o->detail : "");
	loop_exit(w->loop, 0);
}

static void open_world(struct world *w, const char *binary)
{
	struct error err = ERROR_INIT;

	*w = (struct world){ .binary = binary };
	CHECK(loop_new(&w->loop, &err) == 0);
	if (bus_open(&w->bus, w->loop, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		exit(1);
	}
	CHECK(executor_new(&w->executor, w->loop, w->bus, binary, DIR "/jobs", &err) == 0);
	CHECK(executor_kind(w->executor) == EXECUTOR_UNITS);
	CHECK(loop_timer_new(w->loop, "limit", on_limit, w, &w->limit) == 0);
	CHECK(loop_timer_new(w->loop, "pause", on_pause, w, &w->pause) == 0);
}

static void close_world(struct world *w)
{
	executor_job_free(w->job);
	executor_free(w->executor);
	bus_close(w->bus);
	loop_timer_free(w->limit);
	loop_timer_free(w->pause);
	loop_free(w->loop);
}

static void start_with(struct world *w, const struct executor_request *req)
{
	struct error err = ERROR_INIT;

	if (executor_start(w->executor, req, on_done, w, &w->job, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		exit(1);
	}
}

static void start(struct world *w, const char *id)
{
	start_with(w, &(struct executor_request){ .id = id, .description = "EvenKeel probe" });
}

static void attach(struct world *w, const char *id)
{
	CHECK(executor_attach(w->executor, id, on_done, w, &w->job, NULL) == 0);
}

/* Ten seconds for what takes at most two. */
static void await(struct world *w)
{
	int before = w->calls;

	loop_timer_after(w->limit, 10 * USEC_PER_SEC);
	CHECK(loop_run(w->loop) == 0);
	CHECK(w->calls == before + 1);
	loop_timer_stop(w->limit);
	executor_job_free(TAKE_PTR(w->job));
}

static void turn(struct world *w, usec_t span)
{
	loop_timer_after(w->pause, span);
	CHECK(loop_run(w->loop) == 4);
}

static void expect(struct world *w, int code, int status, const char *result)
{
	if (w->last.end != EXECUTOR_ENDED || w->last.code != code || w->last.status != status || !str_equal(w->result, result)) {
		fprintf(stderr, "end %u code %d status %d result %s (%s), wanted %d %d %s\n", w->last.end, w->last.code,
			w->last.status, w->result, w->detail, code, status, result);
		exit(1);
	}
}

static void check_state(struct world *w, const char *id, const char *load, const char *active, const char *sub)
{
	_cleanup_free_ char *unit = str_format("evenkeel-job-%s.service", id);
	char l[64], a[64], s[64];

	CHECK(bus_unit_state(w->bus, unit, l, a, s, NULL) == 0);
	if (!str_equal(l, load) || !str_equal(a, active) || !str_equal(s, sub)) {
		fprintf(stderr, "%s is %s %s %s, wanted %s %s %s\n", unit, l, a, s, load, active, sub);
		exit(1);
	}
}

static void release(struct world *w, const char *id)
{
	executor_release(w->executor, id);
	turn(w, 300 * USEC_PER_MSEC);
	check_state(w, id, "not-found", "inactive", "dead");
}

static void wait_file(const char *name)
{
	_cleanup_free_ char *path = str_format(DIR "/%s", name);
	struct stat st;

	for (int i = 0; i < 1000 && (stat(path, &st) < 0 || !st.st_size); i++)
		usleep(10000);
	CHECK(fs_exists(path));
}

static pid_t pid_in(const char *name)
{
	_cleanup_free_ char *path = str_format(DIR "/%s", name);
	_cleanup_buf_ struct buf b = BUF_INIT(100);

	wait_file(name);
	CHECK(fs_read(path, 100, &b, NULL) == 0);
	return (pid_t)atoi(buf_str(&b));
}

static bool is_gone_soon(pid_t pid)
{
	for (int i = 0; i < 200 && kill(pid, 0) == 0; i++)
		usleep(10000);
	return kill(pid, 0) < 0;
}

static size_t times_begun(const char *id)
{
	_cleanup_free_ char *path = str_format(DIR "/began-%s", id);
	_cleanup_buf_ struct buf b = BUF_INIT(100);

	if (fs_exists(path))
		CHECK(fs_read(path, 100, &b, NULL) == 0);
	return b.len;
}

/* A process that starts the job and is killed at once, or when its start has been answered. */
static void start_and_die(struct world *w, const char *id)
{
	_cleanup_free_ char *began = str_format("began-%s", id);
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		struct world other;

		open_world(&other, w->binary);
		start(&other, id);
		turn(&other, 200 * USEC_PER_MSEC);
		(void)kill(getpid(), SIGKILL);
	}
	CHECK(waitpid(pid, NULL, 0) == pid);
	wait_file(began);
}

/* ---- checks ---- */

static void check_ends(struct world *w)
{
	start(w, "ok");
	await(w);
	expect(w, CLD_EXITED, 0, "success");
	check_state(w, "ok", "loaded", "active", "exited");
	release(w, "ok");

	start(w, "seven");
	await(w);
	expect(w, CLD_EXITED, 7, "exit-code");
	check_state(w, "seven", "loaded", "failed", "failed");
	attach(w, "seven"); /* by a later process the same is seen */
	await(w);
	expect(w, CLD_EXITED, 7, "exit-code");
	release(w, "seven");

	start(w, "segv");
	await(w);
	CHECK(w->last.code == CLD_KILLED || w->last.code == CLD_DUMPED);
	CHECK(w->last.status == SIGSEGV);
	release(w, "segv");
	release(w, "segv"); /* twice does no harm */
}

static void check_cannot_start(struct world *w)
{
	struct executor *e = NULL;

	CHECK(executor_new(&e, w->loop, w->bus, "/no/such/program", DIR "/jobs", NULL) == 0);
	CHECK(executor_start(e, &(struct executor_request){ .id = "absent", .description = "x" }, on_done, w, &w->job, NULL) == 0);
	await(w);
	CHECK(w->last.end == EXECUTOR_START_FAILED);
	CHECK(strstr(w->detail, "evenkeel-job-absent.service"));
	turn(w, 300 * USEC_PER_MSEC);
	check_state(w, "absent", "not-found", "inactive", "dead");
	executor_free(e);
}

static void check_stop(struct world *w)
{
	usec_t begin;
	pid_t child;

	start(w, "polite");
	wait_file("polite");
	executor_stop(w->job, 10 * USEC_PER_SEC);
	begin = time_boot();
	await(w);
	CHECK(time_boot() - begin < 2 * USEC_PER_SEC);
	expect(w, CLD_EXITED, 5, "exit-code");
	release(w, "polite");

	/* What it leaves behind is killed though survivors were allowed. */
	start_with(w, &(struct executor_request){ .id = "untidy", .description = "x", .leave_survivors = true });
	wait_file("untidy");
	child = pid_in("untidy-child");
	executor_stop(w->job, 10 * USEC_PER_SEC);
	await(w);
	CHECK(w->last.status == 5);
	turn(w, 100 * USEC_PER_MSEC);
	CHECK(is_gone_soon(child));
	release(w, "untidy");

	start(w, "stubborn");
	wait_file("stubborn");
	child = pid_in("stubborn-child");
	executor_stop(w->job, 400 * USEC_PER_MSEC);
	begin = time_boot();
	await(w);
	CHECK(time_boot() - begin >= 400 * USEC_PER_MSEC && time_boot() - begin < 3 * USEC_PER_SEC);
	expect(w, CLD_KILLED, SIGKILL, "signal");
	CHECK(is_gone_soon(child));
	release(w, "stubborn");

	/* Stopped before systemd has answered that it was started. */
	start(w, "long-at-once");
	executor_stop(w->job, 300 * USEC_PER_MSEC);
	await(w);
	CHECK(w->last.end == EXECUTOR_ENDED);
	release(w, "long-at-once");
}

static void check_attach(struct world *w)
{
	struct executor_job *second = NULL;

	attach(w, "never-was");
	await(w);
	CHECK(w->last.end == EXECUTOR_NOT_FOUND);

	start_and_die(w, "slow");
	attach(w, "slow");
	CHECK(executor_start(w->executor, &(struct executor_request){ .id = "slow" }, on_done, w, &second, NULL) == -EEXIST);
	await(w);
	expect(w, CLD_EXITED, 6, "exit-code");
	release(w, "slow");

	/* Ended while nobody watched. */
	start_and_die(w, "slow-2");
	usleep(2000000);
	attach(w, "slow-2");
	await(w);
	expect(w, CLD_EXITED, 6, "exit-code");
	release(w, "slow-2");

	/* The name is taken: what is there is watched, nothing runs twice. */
	start_and_die(w, "long");
	start(w, "long");
	turn(w, 300 * USEC_PER_MSEC);
	CHECK(times_begun("long") == 1);
	executor_stop(w->job, USEC_PER_SEC);
	await(w);
	expect(w, CLD_KILLED, SIGTERM, "success"); /* systemd takes this death for a clean one */
	release(w, "long");

	/* Stopped by somebody else: it is told, though the unit is gone. */
	start(w, "long-2");
	wait_file("began-long-2");
	CHECK(system("systemctl stop evenkeel-job-long-2.service") == 0);
	await(w);
	CHECK(w->last.end == EXECUTOR_ENDED);
	release(w, "long-2");
}

/* A job that is released and started again at once gets a unit of its own, not the old one's end. */
static void check_again(struct world *w)
{
	size_t before = times_begun("seven");

	for (unsigned i = 0; i < 5; i++) {
		start(w, "seven");
		await(w);
		expect(w, CLD_EXITED, 7, "exit-code");
		executor_release(w->executor, "seven");
	}
	CHECK(times_begun("seven") == before + 5);
	turn(w, 300 * USEC_PER_MSEC);
	check_state(w, "seven", "not-found", "inactive", "dead");

	/* To be stopped, and out of time, before the start is answered: it still dies. */
	start(w, "stubborn");
	executor_stop(w->job, 0);
	await(w);
	CHECK(w->last.end == EXECUTOR_ENDED && w->last.code == CLD_KILLED);
	executor_release(w->executor, "stubborn");
	start(w, "ok");
	executor_job_free(TAKE_PTR(w->job));
	turn(w, 300 * USEC_PER_MSEC);
	release(w, "ok");
}

static void check_survivors(struct world *w)
{
	pid_t child;

	start(w, "leaves-1");
	await(w);
	expect(w, CLD_EXITED, 0, "success");
	child = pid_in("leaves-1-child");
	release(w, "leaves-1");
	CHECK(is_gone_soon(child));

	start_with(w, &(struct executor_request){ .id = "leaves-2", .description = "x", .leave_survivors = true });
	await(w);
	child = pid_in("leaves-2-child");
	executor_release(w->executor, "leaves-2");
	turn(w, 300 * USEC_PER_MSEC);
	CHECK(kill(child, 0) == 0);
	/* The unit is over, and its name is free when the last process has gone. */
	check_state(w, "leaves-2", "loaded", "inactive", "dead");
	CHECK(kill(child, SIGKILL) == 0);
	turn(w, 300 * USEC_PER_MSEC);
	check_state(w, "leaves-2", "not-found", "inactive", "dead");
}

static void check_properties(struct world *w)
{
	static const char *const writable[] = { DIR, NULL };

	CHECK(setenv("EVENKEEL_PROBE", "a $b %h", 1) == 0 && setenv("SECRET", "x", 1) == 0);
	start(w, "environment");
	await(w);
	expect(w, CLD_EXITED, 0, "success");
	release(w, "environment");

	start_with(w, &(struct executor_request){
			      .id = "confined", .description = "x", .confined = true, .capabilities = 1, .writable = writable });
	await(w);
	expect(w, CLD_EXITED, 0, "success");
	release(w, "confined");

	start_with(w, &(struct executor_request){
			      .id = "long-3", .description = "x", .memory_max_bytes = 64 << 20, .cpu_percent = 25 });
	wait_file("began-long-3");
	CHECK(system("systemctl show evenkeel-job-long-3 >" DIR "/show") == 0);
	CHECK(system("grep -qx MemoryMax=67108864 " DIR "/show && grep -qx CPUQuotaPerSecUSec=250ms " DIR "/show && "
		     "grep -qx Slice=evenkeel-jobs.slice " DIR "/show && grep -qx KillMode=control-group " DIR "/show && "
		     "grep -q '^After=.*evenkeel.service' " DIR "/show") == 0);
	executor_stop(w->job, USEC_PER_SEC);
	await(w);
	release(w, "long-3");
}

#define MANY 40

static void on_one_of_many(const struct executor_outcome *o, void *userdata)
{
	struct world *w = userdata;

	CHECK(o->end == EXECUTOR_ENDED && o->code == CLD_EXITED && o->status == 0);
	executor_release(w->executor, o->id);
	if (++w->calls % MANY == 0)
		loop_exit(w->loop, 0);
}

static void check_many(struct world *w)
{
	struct executor_job *jobs[MANY] = { NULL };

	w->calls = 0;
	for (unsigned i = 0; i < MANY; i++) {
		_cleanup_free_ char *id = str_format("many-%u", i);

		CHECK(executor_start(w->executor, &(struct executor_request){ .id = id, .description = "x" }, on_one_of_many, w,
				     &jobs[i], NULL) == 0);
	}
	loop_timer_after(w->limit, 20 * USEC_PER_SEC);
	CHECK(loop_run(w->loop) == 0);
	loop_timer_stop(w->limit);
	for (unsigned i = 0; i < MANY; i++)
		executor_job_free(jobs[i]);
	turn(w, USEC_PER_SEC);
	check_state(w, "many-0", "not-found", "inactive", "dead");
	check_state(w, "many-39", "not-found", "inactive", "dead");
}

/* PID 1 and the bus are replaced under a running job. */
static void check_reconnect(struct world *w)
{
	start(w, "slow-3");
	turn(w, 300 * USEC_PER_MSEC);
	CHECK(system("systemctl daemon-reload && systemctl daemon-reexec") == 0);
	await(w);
	expect(w, CLD_EXITED, 6, "exit-code");
	release(w, "slow-3");

	if (system("systemctl is-active -q dbus.service") != 0)
		return;
	start(w, "slow-4");
	turn(w, 300 * USEC_PER_MSEC);
	CHECK(system("systemctl restart dbus.service") == 0);
	await(w);
	expect(w, CLD_EXITED, 6, "exit-code");
	turn(w, 1500 * USEC_PER_MSEC);
	release(w, "slow-4");
	start(w, "ok");
	await(w);
	expect(w, CLD_EXITED, 0, "success");
	release(w, "ok");
}

static void on_unit(const struct unit_answer *a, void *userdata)
{
	struct world *w = userdata;

	w->calls++;
	w->last.code = a->result;
	(void)snprintf(w->detail, sizeof(w->detail), "%s", a->detail ? a->detail : "");
	loop_exit(w->loop, 0);
}

static int do_unit(struct world *w, enum unit_verb verb, const char *unit, usec_t timeout)
{
	struct bus_call *c = NULL;

	CHECK(unit_do(w->bus, verb, unit, timeout, on_unit, w, &c, NULL) == 0);
	loop_timer_after(w->limit, 10 * USEC_PER_SEC);
	CHECK(loop_run(w->loop) == 0);
	loop_timer_stop(w->limit);
	bus_call_free(c);
	if (w->last.code < 0)
		CHECK(strstr(w->detail, unit));
	return w->last.code;
}

static void on_state(const struct unit_state *s, void *userdata)
{
	struct world *w = userdata;

	CHECK(s->result == 0);
	(void)snprintf(w->detail, sizeof(w->detail), "%s %s %s %s", s->load, s->active, s->sub, s->file_state);
	loop_exit(w->loop, 0);
}

static const char *state_of(struct world *w, const char *unit)
{
	struct bus_call *c = NULL;

	CHECK(unit_get_state(w->bus, unit, on_state, w, &c, NULL) == 0);
	CHECK(loop_run(w->loop) == 0);
	bus_call_free(c);
	return w->detail;
}

static void write_unit(const char *name, const char *text)
{
	_cleanup_free_ char *path = str_format("/etc/systemd/system/%s", name);

	CHECK(fs_write(path, text, strlen(text), 0644, 0, NULL) == 0);
}

static void check_units(struct world *w)
{
	struct bus_call *cancelled = NULL;
	struct error err = ERROR_INIT;
	char l[64], a[64], s[64];
	usec_t begun;

	write_unit("probe-sleep.service", "[Service]\nExecStart=/bin/sleep 60\n[Install]\nWantedBy=multi-user.target\n");
	write_unit("probe-fail.service", "[Service]\nType=oneshot\nExecStart=/bin/false\n");
	write_unit("probe-slow.service", "[Service]\nType=oneshot\nExecStart=/bin/sleep 3\n");
	write_unit("probe-slower.service", "[Service]\nType=oneshot\nExecStart=/bin/sleep 30\n");
	CHECK(bus_daemon_reload(w->bus, &err) == 0);

	CHECK(do_unit(w, UNIT_START, "probe-sleep.service", 5 * USEC_PER_SEC) == 0);
	CHECK(str_equal(state_of(w, "probe-sleep.service"), "loaded active running disabled"));
	CHECK(do_unit(w, UNIT_START, "probe-sleep.service", 5 * USEC_PER_SEC) == 0); /* it is there already */
	CHECK(do_unit(w, UNIT_RELOAD, "probe-sleep.service", 5 * USEC_PER_SEC) == -EOPNOTSUPP);
	CHECK(do_unit(w, UNIT_RELOAD_OR_RESTART, "probe-sleep.service", 5 * USEC_PER_SEC) == 0);
	CHECK(unit_kill(w->bus, "probe-sleep.service", SIGKILL, &err) == 0);
	turn(w, 300 * USEC_PER_MSEC);
	CHECK(str_equal(state_of(w, "probe-sleep.service"), "loaded failed failed disabled"));
	CHECK(do_unit(w, UNIT_TRY_RESTART, "probe-sleep.service", 5 * USEC_PER_SEC) == 0);
	CHECK(do_unit(w, UNIT_STOP, "probe-sleep.service", 5 * USEC_PER_SEC) == 0);
	CHECK(do_unit(w, UNIT_START, "probe-fail.service", 5 * USEC_PER_SEC) == -EIO);
	CHECK(do_unit(w, UNIT_START, "probe-absent.service", 5 * USEC_PER_SEC) == -ENOENT);
	CHECK(do_unit(w, UNIT_START, "probe-slow.service", 300 * USEC_PER_MSEC) == -ETIMEDOUT);
	CHECK(system("systemctl mask -q probe-masked.service") == 0);
	CHECK(do_unit(w, UNIT_START, "probe-masked.service", 5 * USEC_PER_SEC) == -EACCES);
	CHECK(str_equal(state_of(w, "probe-absent.service"), "not-found inactive dead "));

	w->calls = 0;
	CHECK(unit_do(w->bus, UNIT_START, "probe-sleep.service", USEC_PER_SEC, on_unit, w, &cancelled, NULL) == 0);
	bus_call_free(cancelled);
	turn(w, 300 * USEC_PER_MSEC);
	CHECK(w->calls == 0);

	CHECK(bus_enable_unit(w->bus, "probe-sleep.service", &err) == 0);
	CHECK(fs_exists("/etc/systemd/system/multi-user.target.wants/probe-sleep.service"));
	CHECK(bus_disable_unit(w->bus, "probe-sleep.service", &err) == 0);
	CHECK(!fs_exists("/etc/systemd/system/multi-user.target.wants/probe-sleep.service"));
	CHECK(bus_unit_job(w->bus, UNIT_STOP, "probe-sleep.service", true, &err) == 0);
	CHECK(bus_unit_state(w->bus, "probe-sleep.service", l, a, s, &err) == 0 && str_equal(a, "inactive"));
	CHECK(bus_unit_job(w->bus, UNIT_START, "probe-fail.service", true, &err) == -EIO);
	CHECK(strstr(err.msg, "probe-fail.service"));
	CHECK(bus_unit_job(w->bus, UNIT_START, "probe-absent.service", true, &err) == -ENOENT);
	CHECK(bus_unit_job(w->bus, UNIT_START, "probe-sleep.service", false, &err) == 0);
	CHECK(bus_unit_job(w->bus, UNIT_STOP, "probe-sleep.service", false, &err) == 0);

	/* Several waits with one end: past it nobody is waited for. */
	begun = time_boot();
	bus_set_deadline(w->bus, usec_add(begun, 500 * USEC_PER_MSEC));
	CHECK(bus_unit_job(w->bus, UNIT_START, "probe-slower.service", true, &err) == -ETIMEDOUT);
	CHECK(bus_unit_job(w->bus, UNIT_STOP, "probe-slower.service", true, &err) == -ETIMEDOUT);
	CHECK(bus_daemon_reload(w->bus, &err) == -ETIMEDOUT);
	CHECK(usec_sub(time_boot(), begun) < 15 * USEC_PER_SEC);
	bus_set_deadline(w->bus, 0);
	CHECK(bus_unit_job(w->bus, UNIT_STOP, "probe-slower.service", true, &err) == 0);
}

static const struct {
	const char *name;
	void (*check)(struct world *w);
} checks[] = {
	{ "ends", check_ends },	      { "cannot-start", check_cannot_start }, { "stop", check_stop },
	{ "attach", check_attach },   { "survivors", check_survivors },	      { "properties", check_properties },
	{ "again", check_again },     { "many", check_many },		      { "units", check_units },		      { "reconnect", check_reconnect },
};

int main(int argc, char **argv)
{
	_cleanup_free_ char *binary = realpath("/proc/self/exe", NULL);
	struct world w;

	if (argc == 3 && str_equal(argv[1], "run"))
		return run(argv[2]);
	CHECK(binary);
	(void)umask(022);
	CHECK(fs_remove_tree(DIR, NULL) == 0 && fs_mkdirs(DIR, 0755, NULL) == 0);
	open_world(&w, binary);
	for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
		if (argc > 1 && !str_equal(argv[1], checks[i].name))
			continue;
		checks[i].check(&w);
		printf("ok %s\n", checks[i].name);
		(void)fflush(stdout);
	}
	close_world(&w);
	return 0;
}
