/* Looks at what the daemon tells of draining, and waits with patience for one that is being replaced. */
#include "agent/app/cli_drain_watch.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/app/api_client.h"
#include "agent/app/cli_client.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/json.h"
#include "agent/core/exit_codes.h"
#include "agent/io/paths.h"

#define PATIENCE_USEC (30 * USEC_PER_SEC) /* with a daemon that does not answer: it may be starting anew */

void drain_view_done(struct drain_view *v)
{
	jd_free(&drain_view_type, v);
}

int drain_look_once(const struct paths *p, int64_t since, struct buf *text, struct drain_view *ret, struct error *err)
{
	_cleanup_free_ char *path = str_format("/v1/events?since=%lld", (long long)since);
	_cleanup_(drain_view_done) struct drain_view v = { 0 };
	int r;

	if (!path)
		return error_oom(err);
	r = api_look(p, path, CLI_ANSWER_USEC, &drain_view_type, text, &v, err);
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

	while ((r = drain_look_once(p, since, &text, ret, err)) < 0 && r != -EPROTO && r != -EACCES && time_boot() < patience) {
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

int drain_watch(const struct paths *p, const char *verb, int64_t since, usec_t within, drain_until_fn until)
{
	usec_t deadline = usec_add(time_boot(), within);
	struct error e = ERROR_INIT;
	int code = EXIT_FAILED;

	for (;;) {
		_cleanup_(drain_view_done) struct drain_view v = { 0 };

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
		(void)poll(NULL, 0, (int)(DRAIN_LOOK_USEC / USEC_PER_MSEC));
	}
}

int drain_told_so_far(const struct paths *p, int64_t *ret)
{
	_cleanup_(drain_view_done) struct drain_view v = { 0 };
	struct error e = ERROR_INIT;

	if (look(p, 0, &v, &e) < 0) {
		fprintf(stderr, "evenkeel: %s\n", e.msg);
		return EXIT_NOT_RUNNING;
	}
	*ret = v.told;
	return EXIT_OK;
}
