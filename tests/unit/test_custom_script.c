/* Custom scripts with real jobs: order, policies, retries, waits, restarts of the daemon, reboots, and what is told. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/core/exit_codes.h"
#include "agent/core/settings.h"
#include "agent/core/status.h"
#include "agent/io/executor.h"
#include "agent/io/loop.h"
#include "agent/io/machine.h"
#include "agent/io/paths.h"
#include "agent/core/metrics.h"
#include "handlers/common/handler.h"
#include "handlers/common/jobs.h"
#include "handlers/common/package_locks.h"
#include "tests/support/place.h"

#define POLL_USEC (5 * USEC_PER_MSEC)
#define MOST_POLLS 4000
#define COMPONENTS 40

struct world {
	struct place place;
	struct metrics *metrics;
	unsigned notices;
	struct handler_host host;
	struct handler *handler;
	struct settings settings, former;
	struct status_model *model;
	struct loop_timer *poll;
	bool (*until)(struct world *w);
	int polls;
	usec_t stop_at;
	bool certificates, paused;
	/* Of the last round. */
	struct {
		char name[64], message[5000];
		enum status_level level;
		enum duty duty;
		int code;
	} c[COMPONENTS];
	size_t n;
};

static void on_changed(const struct handler_host *host)
{
	assert_non_null(host->daemon);
}

static bool on_certificates_ready(const struct handler_host *host)
{
	return ((struct world *)host->daemon)->certificates;
}

static bool on_paused(const struct handler_host *host)
{
	return ((struct world *)host->daemon)->paused;
}

static void on_tell(const struct handler_host *host, enum notice_kind kind, const char *subject, const char *event_type,
		    const char *message)
{
	struct world *w = host->daemon;

	assert_int_equal(kind, NOTICE_SCRIPT);
	assert_null(event_type);
	assert_non_null(strstr(message, subject));
	w->notices++;
}

static void open_world(struct world *w)
{
	struct error e = ERROR_INIT;

	place_open(&w->place);
	w->host = (struct handler_host){ .loop = w->place.loop, .jobs = w->place.jobs, .paths = &w->place.paths, .boot_id = w->place.boot_id,
					 .machine_id = "m", .changed = on_changed, .certificates_ready = on_certificates_ready, .paused = on_paused,
					 .tell = on_tell, .metrics = w->metrics, .daemon = w };
	if (custom_script_class.start(&w->host, &w->handler, &e) < 0)
		fail_msg("%s", e.msg);
}

static void close_world(struct world *w)
{
	custom_script_class.free(w->handler);
	loop_timer_free(w->poll);
	w->poll = NULL;
	place_close(&w->place);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	if (!w || place_make(&w->place) < 0)
		return -1;
	if (fs_mkdirs(w->place.paths.records, 0700, NULL) < 0 || status_model_new(&w->model) < 0 || metrics_new(&w->metrics) < 0)
		return -1;
	open_world(w);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	close_world(w);
	settings_done(&w->settings);
	settings_done(&w->former);
	status_model_free(w->model);
	metrics_free(w->metrics);
	if (place_remove(&w->place) < 0)
		return -1;
	free(w);
	return 0;
}

/* ---- driving ---- */

static void load(struct world *w, const char *public_text, const char *protected_text)
{
	const struct settings_source source = { .door = DOOR_EXTENSION,
						.name = "settings",
						.public_text = public_text,
						.public_len = strlen(public_text),
						.protected_text = protected_text,
						.protected_len = protected_text ? strlen(protected_text) : 0 };
	struct jd_report report = { 0 };
	struct error e = ERROR_INIT;

	settings_done(&w->former);
	w->former = w->settings;
	w->settings = (struct settings){ 0 };
	if (settings_load(&source, 1, &w->settings, &report, &e) < 0)
		fail_msg("%s", e.msg);
	jd_report_done(&report);
}

static void apply_again(struct world *w, const char *sequence)
{
	const struct handler_goal goal = { .settings = &w->settings, .sequence = sequence, .key = sequence };
	struct error e = ERROR_INIT;

	if (custom_script_class.apply(w->handler, &goal, &e) < 0)
		fail_msg("%s", e.msg);
}

/* Section text with %s for the directory, wherever it stands. */
static void apply_with(struct world *w, const char *sequence, const char *section, const char *protected_text)
{
	struct buf text = BUF_INIT(65536);

	(void)buf_puts(&text, "{\"customScript\":");
	for (const char *p = section; *p; p++)
		if (*p == '@')
			(void)buf_puts(&text, w->place.dir);
		else
			(void)buf_putc(&text, *p == '\'' ? '"' : *p);
	(void)buf_puts(&text, "}");
	load(w, text.data, protected_text);
	buf_done(&text);
	assert_int_equal(status_model_begin(w->model, sequence, "accepted"), 0);
	apply_again(w, sequence);
}

static void apply(struct world *w, const char *sequence, const char *section)
{
	apply_with(w, sequence, section, NULL);
}

static int on_component(void *userdata, const struct component *c)
{
	struct world *w = userdata;

	assert_true(w->n < COMPONENTS);
	(void)snprintf(w->c[w->n].name, sizeof(w->c[0].name), "%s", c->name);
	(void)snprintf(w->c[w->n].message, sizeof(w->c[0].message), "%s", c->message);
	w->c[w->n].level = c->level;
	w->c[w->n].duty = c->duty;
	w->c[w->n++].code = c->code;
	return status_round_add(w->model, c);
}

static void look(struct world *w)
{
	w->n = 0;
	status_round_begin(w->model);
	assert_int_equal(custom_script_class.report(w->handler, on_component, w), 0);
	status_round_end(w->model);
}

static void on_poll(void *userdata)
{
	struct world *w = userdata;

	look(w);
	loop_timer_after(w->poll, POLL_USEC);
	if (w->until(w) || (w->stop_at && time_boot() >= w->stop_at))
		loop_exit(w->place.loop, 0);
	else if (++w->polls > MOST_POLLS)
		loop_exit(w->place.loop, 1);
}

static void run_until(struct world *w, bool (*until)(struct world *w))
{
	int r;

	w->until = until;
	w->polls = 0;
	if (!w->poll)
		assert_int_equal(loop_timer_new(w->place.loop, "poll", on_poll, w, &w->poll), 0);
	loop_timer_after(w->poll, POLL_USEC);
	r = loop_run(w->place.loop);
	if (r != 0)
		fail_msg("it did not come to an end: %s", w->n ? w->c[0].message : "");
}

static bool idle(struct world *w)
{
	return !custom_script_class.busy(w->handler);
}

static bool second_runs(struct world *w)
{
	return w->n > 1 && str_starts(w->c[1].message, "running");
}

static bool first_runs(struct world *w)
{
	return str_starts(w->c[0].message, "running") || str_starts(w->c[0].message, "started; running");
}

static bool first_ended(struct world *w)
{
	return str_starts(w->c[0].message, "exit code");
}

static bool first_waits(struct world *w)
{
	return str_starts(w->c[0].message, "waiting for");
}

static char *path_in(struct world *w, const char *name)
{
	return str_format("%s/%s", w->place.dir, name);
}

static char *said(struct world *w, const char *name)
{
	_cleanup_free_ char *path = path_in(w, name);
	struct buf b = BUF_INIT(1UL << 20);
	struct error e = ERROR_INIT;
	int r = fs_read(path, b.max, &b, &e);

	return r == -ENOENT || !b.data ? strdup("") : b.data;
}

static void expect_said(struct world *w, const char *name, const char *text)
{
	_cleanup_free_ char *got = said(w, name);

	assert_string_equal(got, text);
}

/* For us and for the runner. */
static void boot_again(struct world *w)
{
	_cleanup_free_ char *directory = path_in(w, "proc/sys/kernel/random"), *path = path_join(directory, "boot_id");

	strcpy(w->place.boot_id, "the-next-boot");
	assert_int_equal(fs_mkdirs(directory, 0755, NULL), 0);
	assert_int_equal(fs_write(path, w->place.boot_id, strlen(w->place.boot_id), 0644, FS_NO_SYNC, NULL), 0);
}

static void touch(struct world *w, const char *directory, const char *name)
{
	_cleanup_free_ char *d = path_in(w, directory), *path = NULL;

	assert_int_equal(fs_mkdirs(d, 0755, NULL), 0);
	path = path_join(d, name);
	assert_int_equal(fs_write(path, "", 0, 0640, FS_NO_SYNC, NULL), 0);
}

/* A kill -9 of the daemon, and the next one. */
static void restart(struct world *w, const char *sequence)
{
	close_world(w);
	open_world(w);
	apply_again(w, sequence);
}

/* ---- order and results ---- */

static void test_in_order(void **state)
{
	struct world *w = *state;

	apply(w, "4",
	      "{'scripts':[{'name':'a','commandToExecute':'sleep 0.1; echo a >> @/log'},"
	      "{'name':'b','script':'IyEvYmluL3NoDQplY2hvICJiICQxIiA+PiAkMg0K','arguments':['x','@/log']}]}");
	look(w);
	assert_int_equal(w->n, 2);
	assert_string_equal(w->c[0].name, "customScript/a");
	assert_int_equal(w->c[0].duty, DUTY_OPEN);
	assert_string_equal(w->c[1].message, "waiting for its turn");
	assert_int_equal(status_top(w->model), STATUS_TRANSITIONING);
	run_until(w, idle);
	look(w);
	expect_said(w, "log", "a\nb x\n");
	assert_int_equal(status_top(w->model), STATUS_SUCCESS);
	assert_string_equal(status_top_message(w->model), "Sequence 4 applied.");
	apply_again(w, "4"); /* the same once more: nothing is due */
	run_until(w, idle);
	restart(w, "4");
	run_until(w, idle);
	expect_said(w, "log", "a\nb x\n");
	apply_again(w, "5");
	run_until(w, idle);
	expect_said(w, "log", "a\nb x\na\nb x\n");
}

static void test_one_script(void **state)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_API_REPLY);
	struct world *w = *state;

	apply(w, "1", "{'scripts':[{'name':'only','commandToExecute':'echo out; echo err >&2'}]}");
	run_until(w, idle);
	look(w);
	assert_string_equal(status_top_message(w->model), "Enable succeeded: \n[stdout]\nout\n\n[stderr]\nerr\n");
	assert_true(str_starts(w->c[0].message, "exit code 0 after "));
	assert_int_equal(w->notices, 1);
	assert_int_equal(metrics_render(w->metrics, METRICS_TEXT, &text), 0);
	assert_non_null(strstr(buf_str(&text), "evenkeel_script_runs_total{script=\"only\",result=\"succeeded\"} 1\n"));
	assert_non_null(strstr(buf_str(&text), "evenkeel_script_duration_seconds_count{script=\"only\"} 1\n"));
}

static void test_failure(void **state)
{
	struct world *w = *state;

	apply(w, "1",
	      "{'scripts':[{'name':'a','commandToExecute':'echo why >&2; exit 7'},{'name':'b','commandToExecute':'echo b > @/b'}]}");
	run_until(w, idle);
	look(w);
	expect_said(w, "b", "");
	assert_int_equal(status_top(w->model), STATUS_ERROR);
	assert_true(str_starts(status_top_message(w->model), "Enable failed: script a: exit code 7 after "));
	assert_non_null(strstr(status_top_message(w->model), "[stderr]\nwhy\n"));
	assert_int_equal(status_top_code(w->model), CODE_SCRIPT_EXIT);
	assert_int_equal(w->c[1].level, STATUS_ERROR);
	assert_string_equal(w->c[1].message, "not run: script a before it failed");
	restart(w, "1");
	run_until(w, idle);
	look(w);
	expect_said(w, "b", "");
	assert_int_equal(w->c[1].level, STATUS_ERROR);
}

static void test_failure_allowed(void **state)
{
	struct world *w = *state;

	apply(w, "1",
	      "{'scripts':[{'name':'a','commandToExecute':'exit 7','continueOnFailure':true,'treatFailureAsDeploymentFailure':false},"
	      "{'name':'b','commandToExecute':'echo b > @/b'}]}");
	run_until(w, idle);
	look(w);
	expect_said(w, "b", "b\n");
	assert_int_equal(w->c[0].level, STATUS_ERROR);
	assert_int_equal(status_top(w->model), STATUS_SUCCESS);
}

static void test_drop_in_words(void **state)
{
	struct world *w = *state;

	load(w, "{\"commandToExecute\":\"echo o; exit 9\"}", NULL);
	assert_int_equal(status_model_begin(w->model, "1", "accepted"), 0);
	apply_again(w, "1");
	run_until(w, idle);
	look(w);
	assert_string_equal(status_top_message(w->model),
			    "Enable failed: failed to execute command: command terminated with exit status=9"
			    "\n[stdout]\no\n\n[stderr]\n");
}

static void test_retry(void **state)
{
	struct world *w = *state;

	apply(w, "1",
	      "{'scripts':[{'name':'a','commandToExecute':'echo x >> @/log; [ $(wc -l < @/log) = 3 ]',"
	      "'retry':{'times':5,'delayInSeconds':0}}]}");
	run_until(w, idle);
	look(w);
	expect_said(w, "log", "x\nx\nx\n");
	assert_int_equal(status_top(w->model), STATUS_SUCCESS);
	apply(w, "2", "{'scripts':[{'name':'a','commandToExecute':'echo y >> @/log2; exit 3','retry':{'times':2,'delayInSeconds':0}}]}");
	run_until(w, idle);
	look(w);
	expect_said(w, "log2", "y\ny\ny\n");
	assert_int_equal(status_top(w->model), STATUS_ERROR);
}

/* Its next try keeps nobody, neither the list nor the deployment. */
static void test_retry_in_background(void **state)
{
	struct world *w = *state;

	apply(w, "1",
	      "{'scripts':[{'name':'a','commandToExecute':'exit 3','asynchronous':true,'retry':{'times':1,'delayInSeconds':3600}},"
	      "{'name':'b','commandToExecute':'sleep 0.3'},{'name':'c','commandToExecute':'echo c >> @/log'}]}");
	run_until(w, idle);
	look(w);
	expect_said(w, "log", "c\n");
	assert_int_equal(status_top(w->model), STATUS_SUCCESS);
	assert_non_null(strstr(w->c[0].message, "try 1: exit code 3 after "));
	assert_non_null(strstr(w->c[0].message, "; tried again in "));
	/* Another one's delay is not its. */
	apply(w, "2",
	      "{'scripts':[{'name':'a','commandToExecute':'echo a >> @/log2; exit 3','asynchronous':true,"
	      "'retry':{'times':1,'delayInSeconds':3600}},{'name':'b','commandToExecute':'sleep 0.3; echo b >> @/log2; exit 3',"
	      "'retry':{'times':1,'delayInSeconds':0}}]}");
	run_until(w, idle);
	expect_said(w, "log2", "a\nb\nb\n");
}

static void test_retry_after_deadline(void **state)
{
	struct world *w = *state;

	apply(w, "1",
	      "{'deadlineInSeconds':60,'scripts':[{'name':'a','commandToExecute':'echo because; exit 3',"
	      "'retry':{'times':5,'delayInSeconds':60}}]}");
	run_until(w, idle);
	look(w);
	assert_int_equal(status_top(w->model), STATUS_ERROR);
	assert_true(str_starts(w->c[0].message, "exit code 3 after "));
	assert_non_null(strstr(w->c[0].message, "; no time is left for another try"));
	assert_non_null(strstr(w->c[0].message, "[stdout]\nbecause\n"));
}

static void test_timeout(void **state)
{
	struct world *w = *state;

	apply(w, "1", "{'scripts':[{'name':'a','commandToExecute':'echo begun; sleep 60','timeoutInSeconds':1}]}");
	run_until(w, idle);
	look(w);
	assert_true(str_starts(w->c[0].message, "timed out after 1"));
	assert_int_equal(w->c[0].code, CODE_TIMEOUT);
	assert_non_null(strstr(w->c[0].message, "begun"));
}

static void test_asynchronous(void **state)
{
	struct world *w = *state;

	apply(w, "1",
	      "{'scripts':[{'name':'a','commandToExecute':'sleep 0.5; echo a >> @/log; exit 4','asynchronous':true},"
	      "{'name':'b','commandToExecute':'echo b >> @/log'}]}");
	run_until(w, idle);
	look(w);
	expect_said(w, "log", "b\n");
	assert_int_equal(status_top(w->model), STATUS_SUCCESS);
	assert_true(first_runs(w));
	run_until(w, first_ended);
	expect_said(w, "log", "b\na\n");
	assert_int_equal(w->c[0].level, STATUS_ERROR);
	assert_int_equal(status_top(w->model), STATUS_SUCCESS);
}

static void test_secrets(void **state)
{
	struct world *w = *state;

	apply_with(w, "1",
		   "{'scripts':[{'name':'a','commandToExecute':{'secretRef':'c'},'environment':{'P':{'secretRef':'p'},'Q':'q'}}]}",
		   "{\"secrets\":{\"c\":\"echo $Q ${#P}\",\"p\":\"hunter2\"}}");
	run_until(w, idle);
	look(w);
	assert_non_null(strstr(w->c[0].message, "[stdout]\nq 7\n"));
}

static void test_not_run_at_all(void **state)
{
	struct world *w = *state;

	apply_with(w, "1",
		   "{'scripts':[{'name':'a','commandToExecute':'echo ran > @/log','files':['https://h.example/a.sh'],"
		   "'storageAccountName':'account','storageAccountKey':{'secretRef':'k'}}]}",
		   "{\"secrets\":{\"k\":\"a2V5\"}}");
	run_until(w, idle);
	look(w);
	expect_said(w, "log", "");
	assert_int_equal(status_top(w->model), STATUS_ERROR);
	assert_non_null(strstr(status_top_message(w->model), "a storage account key opens blobs only"));
	assert_int_equal(status_top_code(w->model), CODE_BAD_URI);
	apply(w, "2", "{'scripts':[{'name':'a','commandToExecute':'echo ran > @/log','output':"
			"{'stdoutUri':'https://h.example/o?sig=a','stderrUri':'https://h.example/o?sig=b'}}]}");
	run_until(w, idle);
	look(w);
	expect_said(w, "log", "");
	assert_int_equal(status_top(w->model), STATUS_ERROR);
}

/* ---- downloads, from a server of one connection at a time ---- */

static const char *const answers[] = {
	"GET /a.sh", "HTTP/1.1 200 OK\r\nContent-Length: 26\r\nConnection: close\r\n\r\n#!/bin/sh\r\necho ran a $1\r\n",
	"GET /sub/b.bin", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nx\r\ny",
	"GET /gone", "HTTP/1.1 404 Not there\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
	NULL,
};

_Noreturn static void serve(int fd)
{
	for (;;) {
		int c = accept(fd, NULL, NULL);
		char request[4096];
		ssize_t n = c < 0 ? -1 : read(c, request, sizeof(request) - 1);

		if (n < 0)
			_exit(1);
		request[n] = '\0';
		for (const char *const *a = answers; *a; a += 2)
			if (str_starts(request, *a))
				(void)!write(c, a[1], strlen(a[1]));
		close(c);
	}
}

/* The port of a server on loopback, and its process. */
static int start_server(pid_t *ret_pid)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
	assert_int_equal(listen(fd, 16), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	*ret_pid = fork();
	if (*ret_pid == 0)
		serve(fd);
	close(fd);
	return ntohs(address.sin_port);
}

static void test_downloads(void **state)
{
	struct world *w = *state;
	pid_t server;
	int port = start_server(&server);
	_cleanup_free_ char *good = NULL, *wrong = NULL, *gone = NULL;

	good = str_format("{'scripts':[{'name':'a','commandToExecute':'./a.sh x; od -An -c sub/b.bin; stat -c %%a a.sh sub/b.bin',"
			  "'files':['http://127.0.0.1:%d/a.sh?sig=hunter2',{'uri':'http://127.0.0.1:%d/sub/b.bin','name':'sub/b.bin','mode':'0640',"
			  "'sha256':'af1cf2ba8a3fb4e4a1ec0ae2dfdb3f7fb8a1fcc0d63b85da6b1ac77ed2ceb2a7'}]}]}",
			  port, port);
	apply(w, "1", good);
	run_until(w, idle);
	look(w);
	assert_non_null(strstr(w->c[0].message, "its SHA-256 is "));
	memcpy(strstr(good, "af1cf2"), strstr(w->c[0].message, "its SHA-256 is ") + strlen("its SHA-256 is "), 64);
	apply(w, "2", good);
	run_until(w, idle);
	look(w);
	assert_non_null(strstr(w->c[0].message, "[stdout]\nran a x\n   x  \\r  \\n   y\n500\n640\n"));
	wrong = str_format("{'scripts':[{'name':'a','commandToExecute':'echo ran > @/log','files':["
			   "{'uri':'http://127.0.0.1:%d/a.sh','maxSizeInBytes':20}]}]}",
			   port);
	apply(w, "3", wrong);
	run_until(w, idle);
	look(w);
	assert_non_null(strstr(w->c[0].message, "larger than maxSizeInBytes, 20"));
	assert_int_equal(w->c[0].code, CODE_BODY_FAILED);
	gone = str_format("{'scripts':[{'name':'a','commandToExecute':'echo ran > @/log','files':['http://127.0.0.1:%d/gone?sig=hunter2']}]}",
			  port);
	apply(w, "4", gone);
	run_until(w, idle);
	look(w);
	assert_non_null(strstr(w->c[0].message, "the server says 404"));
	assert_null(strstr(w->c[0].message, "hunter2"));
	assert_int_equal(w->c[0].code, CODE_NOT_FOUND);
	expect_said(w, "log", "");
	(void)kill(server, SIGKILL);
	(void)waitpid(server, NULL, 0);
}

/* ---- policies ---- */

static void test_policies(void **state)
{
	static const char section[] =
		"{'scripts':[{'name':'s','commandToExecute':'echo s >> @/log'},"
		"{'name':'c','commandToExecute':'echo c >> @/log','runPolicy':'oncePerContent'},"
		"{'name':'b','commandToExecute':'echo b >> @/log','runPolicy':'everyBoot'}]}";
	struct world *w = *state;

	apply(w, "1", section);
	run_until(w, idle);
	expect_said(w, "log", "s\nc\nb\n");
	apply(w, "2", section);
	run_until(w, idle);
	look(w);
	expect_said(w, "log", "s\nc\nb\ns\nb\n");
	assert_true(str_starts(w->c[1].message, "not run again, its content is the same: "));
	assert_int_equal(status_top(w->model), STATUS_SUCCESS);
	boot_again(w);
	restart(w, "2");
	run_until(w, idle);
	expect_said(w, "log", "s\nc\nb\ns\nb\nb\n");
	apply(w, "3", "{'scripts':[{'name':'c','commandToExecute':'echo d >> @/log','runPolicy':'oncePerContent'}]}");
	run_until(w, idle);
	expect_said(w, "log", "s\nc\nb\ns\nb\nb\nd\n");
}

/* ---- restarts and reboots ---- */

static void test_restart_while_running(void **state)
{
	struct world *w = *state;

	apply(w, "1",
	      "{'scripts':[{'name':'a','commandToExecute':'echo a >> @/log; sleep 0.5; echo e >> @/log'},"
	      "{'name':'b','commandToExecute':'echo b >> @/log'}]}");
	run_until(w, first_runs);
	restart(w, "1");
	look(w);
	assert_int_equal(w->c[0].duty, DUTY_OPEN);
	run_until(w, idle);
	expect_said(w, "log", "a\ne\nb\n");
}

static bool never(struct world *w)
{
	(void)w;
	return false;
}

static void test_kills_at_any_moment(void **state)
{
	struct world *w = *state;

	for (int i = 0; i < 25; i++) {
		_cleanup_free_ char *log = path_in(w, "log");
		char sequence[16];

		(void)unlink(log);
		(void)snprintf(sequence, sizeof(sequence), "%d", i + 1);
		apply(w, sequence,
		      "{'scripts':[{'name':'a','commandToExecute':'echo a >> @/log; sleep 0.02'},"
		      "{'name':'b','commandToExecute':'echo b >> @/log; sleep 0.02'},{'name':'c','commandToExecute':'echo c >> @/log'}]}");
		for (int k = 0; k < 4; k++) {
			if ((i + k) % 5) {
				w->stop_at = usec_add(time_boot(), (usec_t)((i * 7 + k * 13) % 40) * USEC_PER_MSEC);
				run_until(w, never);
				w->stop_at = 0;
			}
			restart(w, sequence);
		}
		run_until(w, idle);
		look(w);
		expect_said(w, "log", "a\nb\nc\n");
		assert_int_equal(status_top(w->model), STATUS_SUCCESS);
	}
}

static void kill_job(struct world *w, const char *prefix)
{
	_cleanup_strv_ char **names = NULL;

	assert_int_equal(fs_list(w->place.paths.run_jobs, 1000, &names, NULL), 0);
	for (char **n = names; *n; n++) {
		_cleanup_free_ char *path = path_join(w->place.paths.run_jobs, *n);
		struct buf b = BUF_INIT(100);

		if (!str_starts(*n, prefix) || !str_ends(*n, ".pid"))
			continue;
		assert_int_equal(fs_read(path, b.max, &b, NULL), 0);
		(void)kill((pid_t)atol(b.data), SIGKILL);
		buf_done(&b);
	}
}

static void reboot_in(struct world *w, const char *section)
{
	apply(w, "1", section);
	run_until(w, first_runs);
	usleep(200000);
	close_world(w);
	kill_job(w, "cs-a-");
	boot_again(w);
	open_world(w);
	apply_again(w, "1");
	run_until(w, idle);
	look(w);
}

static void test_reboot_fail(void **state)
{
	struct world *w = *state;

	reboot_in(w, "{'scripts':[{'name':'a','commandToExecute':'echo a >> @/log; [ -e @/again ] || { touch @/again; sleep 60; }'}]}");
	expect_said(w, "log", "a\n");
	assert_int_equal(status_top(w->model), STATUS_ERROR);
	assert_int_equal(status_top_code(w->model), CODE_INTERRUPTED);
	assert_true(str_starts(w->c[0].message, "interrupted by a reboot after "));
}

static void test_reboot_rerun(void **state)
{
	struct world *w = *state;

	reboot_in(w, "{'scripts':[{'name':'a','onReboot':'rerun',"
		     "'commandToExecute':'echo a >> @/log; [ -e @/again ] || { touch @/again; sleep 60; }'}]}");
	expect_said(w, "log", "a\na\n");
	assert_int_equal(status_top(w->model), STATUS_SUCCESS);
}

static bool nothing_is_left(struct world *w)
{
	_cleanup_strv_ char **names = NULL;

	return fs_list(w->place.paths.jobs, 100, &names, NULL) == 0 && strv_length(names) == 0;
}

/* The power fails before the runner can remove the files: then whoever finds them does. */
static void test_reboot_wipe(void **state)
{
	struct world *w = *state;
	_cleanup_strv_ char **names = NULL;
	_cleanup_free_ char *work = NULL;

	apply(w, "1", "{'scripts':[{'name':'a','wipe':true,'commandToExecute':'sleep 60'}]}");
	run_until(w, first_runs);
	usleep(200000);
	close_world(w);
	kill_job(w, "cs-a-");
	assert_int_equal(fs_list(w->place.paths.jobs, 100, &names, NULL), 0);
	assert_int_equal(strv_length(names), 1);
	work = str_format("%s/%s/work", w->place.paths.jobs, names[0]);
	for (int i = 0; i < 2000 && fs_exists(work); i++)
		usleep(10000);
	assert_false(fs_exists(work));
	assert_int_equal(fs_mkdirs(work, 0700, NULL), 0);
	boot_again(w);
	open_world(w);
	apply_again(w, "1");
	run_until(w, idle);
	look(w);
	assert_true(str_starts(w->c[0].message, "interrupted by a reboot after "));
	run_until(w, nothing_is_left);
}

/* ---- sequence numbers that overtake each other ---- */

static void test_busy_wait(void **state)
{
	struct world *w = *state;

	apply(w, "3", "{'scripts':[{'name':'a','commandToExecute':'sleep 0.5; echo old >> @/log'}]}");
	run_until(w, first_runs);
	apply(w, "4", "{'scripts':[{'name':'a','commandToExecute':'echo new >> @/log'}]}");
	look(w);
	assert_true(str_starts(w->c[0].message, "waiting for a of sequence 3, running "));
	assert_int_equal(w->c[0].duty, DUTY_OPEN);
	run_until(w, idle);
	expect_said(w, "log", "old\nnew\n");
}

static bool first_failed(struct world *w)
{
	return w->c[0].level == STATUS_ERROR;
}

/* A former script that does not end does not keep the deployment open beyond its deadline. */
static void test_busy_beyond_deadline(void **state)
{
	struct world *w = *state;
	struct custom_script_settings *section;

	apply(w, "3", "{'scripts':[{'name':'a','asynchronous':true,'commandToExecute':'while [ ! -e @/end ]; do sleep 0.1; done'}]}");
	run_until(w, first_runs);
	load(w, "{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"commandToExecute\":\"true\"},"
		"{\"name\":\"b\",\"commandToExecute\":\"true\"}]}}", NULL);
	section = w->settings.custom_script;
	section->deadline_seconds = 1;
	assert_int_equal(status_model_begin(w->model, "4", "accepted"), 0);
	apply_again(w, "4");
	look(w);
	assert_int_equal(w->c[0].duty, DUTY_OPEN);
	run_until(w, first_failed);
	assert_int_equal(w->c[1].level, STATUS_ERROR);
	assert_int_equal(w->c[1].code, CODE_TIMEOUT);
	assert_non_null(strstr(w->c[1].message, "waiting for a of sequence 3, running "));
	assert_int_equal(status_top(w->model), STATUS_ERROR);
	touch(w, ".", "end");
	run_until(w, idle);
	look(w);
	assert_true(str_starts(w->c[0].message, "not begun: deadlineInSeconds"));
}

static void test_busy_cancel(void **state)
{
	struct world *w = *state;
	usec_t before = time_boot();

	apply(w, "3", "{'scripts':[{'name':'a','commandToExecute':'sleep 60; echo old >> @/log'}]}");
	run_until(w, first_runs);
	apply(w, "4", "{'whenBusy':'cancel','scripts':[{'name':'b','commandToExecute':'echo new >> @/log'}]}");
	run_until(w, idle);
	look(w);
	expect_said(w, "log", "new\n");
	assert_int_equal(w->n, 1);
	assert_true(usec_sub(time_boot(), before) < 10 * USEC_PER_SEC);
}

static void test_section_goes(void **state)
{
	struct world *w = *state;

	apply(w, "3", "{'scripts':[{'name':'a','commandToExecute':'sleep 0.3; echo old >> @/log'}]}");
	run_until(w, first_runs);
	load(w, "{}", NULL);
	apply_again(w, "4");
	look(w);
	assert_int_equal(w->n, 1);
	assert_true(str_starts(w->c[0].message, "no longer in the settings"));
	run_until(w, idle);
	look(w);
	assert_int_equal(w->n, 0);
	expect_said(w, "log", "old\n");
}

/* ---- waits ---- */

static bool second_look(struct world *w)
{
	return w->polls > 20;
}

static void test_waits(void **state)
{
	struct world *w = *state;
	_cleanup_free_ char *lock = path_in(w, "var/lib/dpkg/lock-frontend");
	struct flock all = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd;

	touch(w, "run/cloud-init", "enabled");
	touch(w, "var/lib/dpkg", "lock-frontend");
	fd = open(lock, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	/* A lock of this open file, so that the probe of the same process sees it. */
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &all), 0);
	apply(w, "1",
	      "{'waitFor':['cloudInit','packageLocks','certificates'],'scripts':[{'name':'a','commandToExecute':'echo a >> @/log'}]}");
	run_until(w, first_waits);
	assert_true(str_starts(w->c[0].message, "waiting for cloud-init to finish for "));
	touch(w, "run/cloud-init", "result.json");
	for (int i = 0; i < 300 && !strstr(w->c[0].message, "lock"); i++)
		run_until(w, second_look);
	assert_true(str_starts(w->c[0].message, "waiting for the package manager's lock for "));
	close(fd);
	for (int i = 0; i < 300 && !strstr(w->c[0].message, "certificates"); i++)
		run_until(w, second_look);
	assert_true(str_starts(w->c[0].message, "waiting for the certificates for "));
	expect_said(w, "log", "");
	w->certificates = true;
	run_until(w, idle);
	expect_said(w, "log", "a\n");
}

/* However long it was: what is due then begins when it ends. */
static void test_pause_beyond_deadline(void **state)
{
	struct world *w = *state;

	w->paused = true;
	load(w, "{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"commandToExecute\":\"echo ran\"}]}}", NULL);
	w->settings.custom_script->deadline_seconds = 4;
	assert_int_equal(status_model_begin(w->model, "1", "accepted"), 0);
	apply_again(w, "1");
	w->stop_at = usec_add(time_boot(), 4300 * USEC_PER_MSEC);
	run_until(w, never);
	w->stop_at = 0;
	assert_true(str_starts(w->c[0].message, "paused"));
	w->paused = false;
	custom_script_class.pause_changed(w->handler);
	run_until(w, idle);
	look(w);
	assert_true(str_starts(w->c[0].message, "exit code 0"));
}

static void test_wait_in_vain(void **state)
{
	struct world *w = *state;

	apply(w, "1",
	      "{'waitFor':['certificates'],'waitTimeoutInSeconds':1,'scripts':[{'name':'a','commandToExecute':'echo a >> @/log'},"
	      "{'name':'b','commandToExecute':'echo b >> @/log'}]}");
	run_until(w, idle);
	look(w);
	expect_said(w, "log", "");
	assert_int_equal(status_top(w->model), STATUS_ERROR);
	assert_int_equal(status_top_code(w->model), CODE_TIMEOUT);
	assert_true(str_starts(w->c[0].message, "nothing was run: waited 1"));
	assert_non_null(strstr(w->c[0].message, "for the certificates"));
	/* What was never begun has not done its duty, in the background or not. */
	apply(w, "2",
	      "{'waitFor':['certificates'],'waitTimeoutInSeconds':0,'scripts':[{'name':'a','asynchronous':true,"
	      "'commandToExecute':'echo a >> @/log'}]}");
	run_until(w, idle);
	look(w);
	expect_said(w, "log", "");
	assert_int_equal(status_top(w->model), STATUS_ERROR);
}

/* Older versions of cloud-init that are switched off leave no mark. */
static void test_cloud_init_unknown(void **state)
{
	struct world *w = *state;

	if (time_boot() < 120 * USEC_PER_SEC)
		skip();
	touch(w, "run/cloud-init", "ds-identify.log");
	apply(w, "1", "{'waitFor':['cloudInit'],'scripts':[{'name':'a','commandToExecute':'echo a >> @/log'}]}");
	run_until(w, idle);
	expect_said(w, "log", "a\n");
}

static void test_zypper(void **state)
{
	struct world *w = *state;
	_cleanup_free_ char *path = path_in(w, "run/zypp.pid");
	char pid[32];

	touch(w, "run", "zypp.pid");
	assert_null(package_locks_held(&w->place.paths));
	(void)snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
	assert_int_equal(fs_write(path, pid, strlen(pid), 0644, FS_REPLACE | FS_NO_SYNC, NULL), 0);
	assert_string_equal(package_locks_held(&w->place.paths), "/run/zypp.pid");
	assert_int_equal(fs_write(path, "2147483647", 10, 0644, FS_REPLACE | FS_NO_SYNC, NULL), 0);
	assert_null(package_locks_held(&w->place.paths));
}

/* ---- keeping ---- */

static bool four_are_left(struct world *w)
{
	_cleanup_strv_ char **names = NULL;

	return fs_list(w->place.paths.jobs, 100, &names, NULL) == 0 && strv_length(names) == 4;
}

static void test_keep_runs(void **state)
{
	struct world *w = *state;
	_cleanup_strv_ char **names = NULL;
	int longer = 0;

	for (int i = 0; i < 5; i++) {
		char sequence[8];

		(void)snprintf(sequence, sizeof(sequence), "%d", i);
		apply(w, sequence,
		      "{'keepRuns':2,'scripts':[{'name':'A_b','commandToExecute':'true'},{'name':'a-b-c','commandToExecute':'true'}]}");
		run_until(w, idle);
	}
	/* It is looked at in a moment of its own. */
	w->stop_at = usec_add(time_boot(), 30 * USEC_PER_SEC);
	run_until(w, four_are_left);
	w->stop_at = 0;
	assert_int_equal(fs_list(w->place.paths.jobs, 100, &names, NULL), 0);
	assert_int_equal(strv_length(names), 4);
	for (char **n = names; *n; n++)
		longer += str_starts(*n, "cs-a-b-c-");
	assert_int_equal(longer, 2);
}

static void test_progress(void **state)
{
	struct world *w = *state;

	apply(w, "1",
	      "{'scripts':[{'name':'a','commandToExecute':'true'},{'name':'b','commandToExecute':'echo half way; sleep 6; echo over'}]}");
	run_until(w, second_runs);
	w->stop_at = usec_add(time_boot(), 5500 * USEC_PER_MSEC);
	run_until(w, never);
	w->stop_at = 0;
	assert_true(str_starts(w->c[1].message, "running for 4 s") || str_starts(w->c[1].message, "running for 5 s"));
	assert_non_null(strstr(w->c[1].message, "half way"));
	run_until(w, idle);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_in_order), TEST(test_one_script), TEST(test_failure), TEST(test_failure_allowed), TEST(test_drop_in_words),
		TEST(test_retry), TEST(test_retry_in_background), TEST(test_retry_after_deadline), TEST(test_timeout), TEST(test_asynchronous), TEST(test_secrets), TEST(test_not_run_at_all), TEST(test_downloads),
		TEST(test_policies), TEST(test_restart_while_running), TEST(test_kills_at_any_moment), TEST(test_reboot_fail),
		TEST(test_reboot_rerun), TEST(test_reboot_wipe), TEST(test_busy_wait), TEST(test_busy_beyond_deadline), TEST(test_busy_cancel), TEST(test_section_goes), TEST(test_waits),
		TEST(test_pause_beyond_deadline), TEST(test_wait_in_vain), TEST(test_cloud_init_unknown), TEST(test_zypper), TEST(test_keep_runs), TEST(test_progress),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
