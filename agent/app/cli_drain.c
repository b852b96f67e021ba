/*
 * The verbs about draining: orders to the daemon, and looking on while they are carried out. What is shown is the daemon's
 * view (agent/core/drain_view.h), asked for again and again.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/app/api_client.h"
#include "agent/app/arguments.h"
#include "agent/app/cli_client.h"
#include "agent/app/record_files.h"
#include "agent/app/verbs.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/base/time.h"
#include "agent/codec/json.h"
#include "agent/codec/timefmt.h"
#include "agent/core/drain_view.h"
#include "agent/core/exit_codes.h"
#include "agent/io/paths.h"

#define ANSWER_USEC   (10 * USEC_PER_SEC)
#define LOOK_USEC     (200 * USEC_PER_MSEC)
#define PATIENCE_USEC (30 * USEC_PER_SEC) /* with a daemon that does not answer: it may be starting anew */

/* ---- looking on ---- */

static void view_done(struct drain_view *v)
{
	jd_free(&drain_view_type, v);
}

/* With the lines after number `since`. `text` is the document itself. */
static int look_once(const struct paths *p, int64_t since, struct buf *text, struct drain_view *ret, struct error *err)
{
	_cleanup_free_ char *path = str_format("/v1/events?since=%lld", (long long)since);
	_cleanup_(view_done) struct drain_view v = { 0 };
	int r;

	if (!path)
		return error_oom(err);
	buf_reset(text);
	r = api_call(p, "GET", path, NULL, ANSWER_USEC, text, err);
	if (r < 0)
		return r;
	if (r != 200)
		return error_set(err, ERROR_SYSTEM, r == 503 ? -EAGAIN : -EPROTO, "the service answered %d: %.300s", r,
				 buf_str(text));
	r = jd_decode_document(buf_str(text), text->len, "the answer", LIMIT_API_REPLY, &drain_view_type, &v, err);
	if (r < 0)
		return r;
	*ret = v;
	v = (struct drain_view){ 0 };
	return 0;
}

/* A daemon that is being replaced is waited for: what it holds and what it has drained is in its record. */
static int look(const struct paths *p, int64_t since, struct drain_view *ret, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_API_REPLY);
	usec_t patience = usec_add(time_boot(), PATIENCE_USEC);
	bool told = false;
	int r;

	while ((r = look_once(p, since, &text, ret, err)) < 0 && r != -EPROTO && time_boot() < patience) {
		if (!told)
			cli_note_wait("the service does not answer; waiting for it to start anew");
		told = true;
		(void)poll(NULL, 0, 500);
	}
	return r;
}

static void print_lines(const struct drain_view *v)
{
	const struct view_line *lines = v->lines.items;

	for (size_t i = 0; i < v->lines.n; i++) {
		/* HH:MM:SS of the whole time */
		const char *clock = lines[i].time && strlen(lines[i].time) > 19 ? lines[i].time + 11 : "";
		bool plain = !lines[i].level || str_equal(lines[i].level, "info");

		printf("%.8s  %s%s%s\n", clock, plain ? "" : lines[i].level, plain ? "" : ": ",
		       lines[i].text ? lines[i].text : "");
	}
	(void)fflush(stdout);
}

/* Whether what is waited for has come: *ret_code is the verb's exit code then. */
typedef bool (*until_fn)(const struct drain_view *v, int *ret_code);

/* Prints what is told until then, or until the time is up: -1. */
static int watch(const struct paths *p, const char *verb, int64_t since, usec_t within, until_fn until)
{
	usec_t deadline = usec_add(time_boot(), within);
	struct error e = ERROR_INIT;
	int code = EXIT_FAILED;

	for (;;) {
		_cleanup_(view_done) struct drain_view v = { 0 };

		if (look(p, since, &v, &e) < 0) {
			fprintf(stderr, "evenkeel %s: %s\n", verb, e.msg);
			return EXIT_NOT_RUNNING;
		}
		print_lines(&v);
		/* A daemon that was started anew counts from the beginning. */
		since = v.told;
		if (until(&v, &code))
			return code;
		if (time_boot() >= deadline)
			return -1;
		(void)poll(NULL, 0, (int)(LOOK_USEC / USEC_PER_MSEC));
	}
}

/* The number of the last line before an order is given. */
static int told_so_far(const struct paths *p, int64_t *ret)
{
	_cleanup_(view_done) struct drain_view v = { 0 };
	struct error e = ERROR_INIT;

	if (look(p, 0, &v, &e) < 0) {
		fprintf(stderr, "evenkeel: %s\n", e.msg);
		return EXIT_NOT_RUNNING;
	}
	*ret = v.told;
	return EXIT_OK;
}

/* Drained by all steps, or it will not be any more. */
static bool is_drained(const struct drain_view *v, int *ret_code)
{
	*ret_code = str_equal(v->phase, "drained") && str_equal(v->level, "success") ? EXIT_OK : EXIT_FAILED;
	return !str_equal(v->phase, "draining");
}

static bool is_restored(const struct drain_view *v, int *ret_code)
{
	*ret_code = str_equal(v->phase, "degraded") ? EXIT_FAILED : EXIT_OK;
	/* Something else that holds it is no failure of ours. */
	return !str_equal(v->phase, "restoring");
}

static bool is_rehearsed(const struct drain_view *v, int *ret_code)
{
	*ret_code = str_equal(v->rehearsal, "done") ? EXIT_OK : EXIT_FAILED;
	return str_empty(v->rehearsal) || str_equal(v->rehearsal, "done") || str_equal(v->rehearsal, "failed");
}

static bool never(const struct drain_view *v, int *ret_code)
{
	(void)v;
	(void)ret_code;
	return false;
}

/* ---- drain, restore, ack ---- */

int verb_drain(int argc, char **argv)
{
	_cleanup_(paths_done) struct paths p = { 0 };
	const char *reason = NULL;
	bool wait = false;
	const struct argument arguments[] = { { "--wait", .flag = &wait }, { .word = &reason } };
	int64_t since = 0;
	int code;

	code = arguments_read("drain", arguments, ARRAY_SIZE(arguments), argc, argv);
	if (code == EXIT_OK)
		code = cli_open(&p);
	if (code == EXIT_OK && wait)
		code = told_so_far(&p, &since);
	if (code == EXIT_OK)
		code = cli_order(&p, "drain", "/v1/drain", reason ? reason : "");
	return code == EXIT_OK && wait ? watch(&p, "drain", since, USEC_INFINITY, is_drained) : code;
}

int verb_restore(int argc, char **argv)
{
	if (argc > 2 || (argc == 2 && !str_equal(argv[1], "--force")))
		return cli_usage("restore");
	return cli_order_alone("restore", "/v1/restore", argc == 2 ? "force" : "");
}

int verb_ack(int argc, char **argv)
{
	return argc == 2 && argv[1][0] != '-' ? cli_order_alone("ack", "/v1/ack", argv[1]) : cli_usage("ack");
}

/* ---- backup ---- */

int verb_quiesce(int argc, char **argv)
{
	_cleanup_(paths_done) struct paths p = { 0 };
	_cleanup_free_ char *argument = NULL;
	uint64_t lasts = 900, within = 300;
	const struct argument arguments[] = { { "--for", .seconds = &lasts }, { "--within", .seconds = &within } };
	int64_t since = 0;
	int code = arguments_read("quiesce", arguments, ARRAY_SIZE(arguments), argc, argv);

	if (code != EXIT_OK)
		return code;
	if (within > lasts)
		within = lasts;
	argument = str_format("%llu %llu", (unsigned long long)lasts, (unsigned long long)within);
	code = argument ? cli_open(&p) : EXIT_FAILED;
	if (code == EXIT_OK)
		code = told_so_far(&p, &since);
	if (code == EXIT_OK)
		code = cli_order(&p, "quiesce", "/v1/quiesce", argument);
	if (code != EXIT_OK)
		return code;
	/* The daemon ends the drain when its time is up; a little more for it to say so. */
	code = watch(&p, "quiesce", since, usec_add(usec_from_seconds(within), ANSWER_USEC), is_drained);
	if (code == EXIT_OK)
		return EXIT_OK;
	fprintf(stderr, "evenkeel quiesce: not all steps could be done in time; resuming\n");
	(void)cli_order(&p, "resume", "/v1/resume", "");
	return EXIT_FAILED;
}

#define RESUMED_USEC (10 * USEC_PER_MINUTE)

int verb_resume(int argc, char **argv)
{
	_cleanup_(paths_done) struct paths p = { 0 };
	int64_t since = 0;
	int code;

	(void)argv;
	if (argc > 1)
		return cli_usage("resume");
	code = cli_open(&p);
	if (code == EXIT_OK)
		code = told_so_far(&p, &since);
	if (code == EXIT_OK)
		code = cli_order(&p, "resume", "/v1/resume", "");
	if (code != EXIT_OK)
		return code;
	code = watch(&p, "resume", since, RESUMED_USEC, is_restored);
	if (code > EXIT_OK)
		fprintf(stderr, "evenkeel resume: not everything could be restored; evenkeel status tells more\n");
	return code < 0 ? EXIT_FAILED : code;
}

/* ---- rehearsal ---- */

/* The notice that is documented for the type. */
static uint64_t documented_notice(const char *type)
{
	return str_equal_nocase(type, "Preempt")     ? 30
	       : str_equal_nocase(type, "Terminate") ? 300
	       : str_equal_nocase(type, "Redeploy")  ? 600
						     : 900;
}

static int simulate(const char *argument, bool dry)
{
	_cleanup_(paths_done) struct paths p = { 0 };
	int64_t since = 0;
	int code = cli_open(&p);

	if (code == EXIT_OK && !dry)
		code = told_so_far(&p, &since);
	if (code == EXIT_OK)
		code = cli_order(&p, "simulate", "/v1/simulate", argument);
	return code == EXIT_OK && !dry ? watch(&p, "simulate", since, USEC_INFINITY, is_rehearsed) : code;
}

int verb_simulate(int argc, char **argv)
{
	_cleanup_free_ char *argument = NULL, *duration = NULL;
	const char *type = NULL, *in = NULL, *lasts = NULL;
	uint64_t notice, seconds;
	bool dry = false;
	const struct argument arguments[] = {
		{ "--dry-run", .flag = &dry }, { "--in", .text = &in }, { "--duration", .text = &lasts }, { .word = &type }
	};
	int code = arguments_read("simulate", arguments, ARRAY_SIZE(arguments), argc, argv);

	if (code != EXIT_OK)
		return code;
	if (str_empty(type) || strchr(type, ' '))
		return cli_usage("simulate");
	notice = documented_notice(type);
	if (in && !cli_duration(in, &notice))
		return cli_bad_duration(in);
	if (lasts && !cli_duration(lasts, &seconds))
		return cli_bad_duration(lasts);
	duration = lasts ? str_format("%llu", (unsigned long long)seconds) : strdup("-");
	if (duration)
		argument = str_format("%s %llu %s%s", type, (unsigned long long)notice, duration, dry ? " dry" : "");
	return argument ? simulate(argument, dry) : EXIT_FAILED;
}

/* ---- events ---- */

static void print_when(const char *what, const char *time)
{
	char span[TIMEFMT_MAX];
	usec_t wall, now = time_wall();

	if (str_empty(time) || timefmt_parse(time, &wall, NULL) < 0)
		return;
	if (wall > now)
		printf(", %s %s (in %s)", what, time, timefmt_span(wall - now, span));
	else
		printf(", %s %s", what, time);
}

static void print_event(const struct view_event *e)
{
	printf("  %s %s: %s", e->type, e->id, e->status);
	print_when("not before", e->not_before);
	if (e->duration_seconds >= 0)
		printf(", for %lld s", (long long)e->duration_seconds);
	printf("%s%s\n    %s", e->source ? ", by " : "", e->source ? e->source : "", e->action);
	print_when("from", e->drain_at);
	printf(", acknowledge %s: %s", e->acknowledge, e->acknowledgement);
	print_when("at", e->acknowledged_at);
	printf("%s%s\n", e->shared ? e->leader ? ", shared with other VMs, we lead" : ", shared with other VMs" : "",
	       e->holds ? ", holds this VM drained" : "");
	if (!str_empty(e->description))
		printf("    %s\n", e->description);
}

static void print_step(const struct view_step *s, bool together)
{
	char most[TIMEFMT_MAX], least[TIMEFMT_MAX];

	printf("  %s %s (%s): %s, at most %s, at least %s%s%s\n", together ? "|" : "-", s->name, s->type, s->state,
	       timefmt_span((usec_t)s->timeout_msec * USEC_PER_MSEC, most),
	       timefmt_span((usec_t)s->reserve_msec * USEC_PER_MSEC, least), s->detail ? "; " : "",
	       s->detail ? s->detail : "");
}

static void print_view(const struct drain_view *v)
{
	const struct view_event *events = v->events.items;
	const struct view_hold *holds = v->holds.items;
	const struct view_step *steps = v->steps.items;

	printf("%s\n", v->configured ? v->sentence : "there is no drain section in the settings: nothing is watched");
	printf("Events:%s\n", v->events.n ? "" : " none");
	for (size_t i = 0; i < v->events.n; i++)
		print_event(&events[i]);
	for (size_t i = 0; i < v->holds.n; i++) {
		printf("%s  %s%s%s", i == 0 ? "Also held by:\n" : "", holds[i].kind, holds[i].reason ? ": " : "",
		       holds[i].reason ? holds[i].reason : "");
		print_when("drained by", holds[i].drained_by);
		print_when("until", holds[i].until);
		printf("\n");
	}
	printf("Steps:%s\n", v->steps.n ? "" : " none");
	for (size_t i = 0; i < v->steps.n; i++)
		print_step(&steps[i], (i > 0 && steps[i - 1].group == steps[i].group) ||
					      (i + 1 < v->steps.n && steps[i + 1].group == steps[i].group));
}

/* One document per line, whenever it says something else than the last one. */
static int watch_documents(const struct paths *p)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_API_REPLY);
	_cleanup_free_ char *last = NULL;
	struct error e = ERROR_INIT;
	int64_t since = 0;

	for (;;) {
		_cleanup_(view_done) struct drain_view v = { 0 };

		if (look_once(p, since, &text, &v, &e) < 0) {
			fprintf(stderr, "evenkeel events: %s\n", e.msg);
			return EXIT_NOT_RUNNING;
		}
		if (v.lines.n > 0 || !str_equal(last, buf_str(&text)))
			printf("%s\n", buf_str(&text));
		if (str_set(&last, buf_str(&text)) < 0)
			return EXIT_FAILED;
		since = v.told;
		if (fflush(stdout) != 0)
			return EXIT_FAILED;
		(void)poll(NULL, 0, (int)(LOOK_USEC / USEC_PER_MSEC));
	}
}

/* While the service does not run: what its record tells. */
static int events_of_files(const struct paths *p, bool json)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_API_REPLY);
	_cleanup_(view_done) struct drain_view v = { 0 };
	int r = record_files_drain(p, &v);

	fprintf(stderr, "evenkeel events: the service is not running; %s\n",
		r == -ENOENT ? "nothing has been watched or drained so far" :
		r < 0	     ? "its record cannot be read" :
			       "this is what its record tells");
	if (r < 0)
		return EXIT_NOT_RUNNING;
	if (json && jd_encode(&drain_view_type, &v, false, &text) >= 0)
		printf("%s\n", buf_str(&text));
	else if (!json && str_set(&v.sentence, v.phase) >= 0)
		print_view(&v);
	return EXIT_NOT_RUNNING;
}

int verb_events(int argc, char **argv)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_API_REPLY);
	_cleanup_(view_done) struct drain_view v = { 0 };
	_cleanup_(paths_done) struct paths p = { 0 };
	struct error e = ERROR_INIT;
	bool json = false, live = false;
	const struct argument arguments[] = { { "--json", .flag = &json }, { "--watch", .flag = &live } };
	int code;

	code = arguments_read("events", arguments, ARRAY_SIZE(arguments), argc, argv);
	if (code != EXIT_OK)
		return code;
	if (!live && paths_init(&p, NULL, &e) >= 0 && api_permitted(&p) && !api_daemon_running(&p))
		return events_of_files(&p, json);
	paths_done(&p);
	code = cli_open(&p);
	if (code != EXIT_OK)
		return code;
	if (json && live)
		return watch_documents(&p);
	if (look_once(&p, 0, &text, &v, &e) < 0) {
		fprintf(stderr, "evenkeel events: %s\n", e.msg);
		return EXIT_FAILED;
	}
	if (json)
		printf("%s\n", buf_str(&text));
	else
		print_view(&v);
	return live ? watch(&p, "events", v.told, USEC_INFINITY, never) : EXIT_OK;
}
