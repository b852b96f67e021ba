/* `evenkeel events`: the scheduled events, what holds this VM drained, and the steps; once, or with all that is told. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/app/api_client.h"
#include "agent/app/arguments.h"
#include "agent/app/cli_client.h"
#include "agent/app/cli_drain_watch.h"
#include "agent/app/record_files.h"
#include "agent/app/verbs.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/json.h"
#include "agent/codec/timefmt.h"
#include "agent/core/exit_codes.h"
#include "agent/io/paths.h"

/* ---- printing ---- */

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

/* ---- the verb ---- */

static bool never(const struct drain_view *v, int *ret_code)
{
	(void)v;
	(void)ret_code;
	return false;
}

/* One document per line, whenever it says something else than the last one. */
static int watch_documents(const struct paths *p)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_API_REPLY);
	_cleanup_free_ char *last = NULL;
	struct error e = ERROR_INIT;
	int64_t since = 0;

	for (;;) {
		_cleanup_(drain_view_done) struct drain_view v = { 0 };

		if (drain_look_once(p, since, &text, &v, &e) < 0) {
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
		(void)poll(NULL, 0, (int)(DRAIN_LOOK_USEC / USEC_PER_MSEC));
	}
}

/* While the service does not run: what its record tells. */
static int events_of_files(const struct paths *p, bool json)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_API_REPLY);
	_cleanup_(drain_view_done) struct drain_view v = { 0 };
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
	_cleanup_(drain_view_done) struct drain_view v = { 0 };
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
	if (drain_look_once(&p, 0, &text, &v, &e) < 0) {
		fprintf(stderr, "evenkeel events: %s\n", e.msg);
		return EXIT_FAILED;
	}
	if (json)
		printf("%s\n", buf_str(&text));
	else
		print_view(&v);
	return live ? drain_watch(&p, "events", v.told, USEC_INFINITY, never) : EXIT_OK;
}
