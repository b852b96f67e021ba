/*
 * What agent/azure answers, for Python: one command per line of stdin, one line of JSON per answer on stdout. The
 * process lives as long as stdin, so that caches do too.
 *
 *   azure_probe CONNECT_TO CA_FILE ROOT
 *   instance | userdata | events VERSION MILLISECONDS | ack VERSION ID…
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/azure/imds.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/codec/json.h"
#include "agent/io/http.h"
#include "agent/io/loop.h"

#define WORDS 16

struct probe {
	struct loop *loop;
	struct http *http;
	struct imds_call *imds;
	unsigned pending;
	struct buf line;
};

/* ---- answers ---- */

static void put_text(struct buf *b, const char *key, const char *value)
{
	(void)buf_printf(b, ", \"%s\": ", key);
	if (value)
		(void)jd_quote(b, value, strlen(value));
	else
		(void)buf_puts(b, "null");
}

static void put_error(struct buf *b, const struct error *err)
{
	(void)buf_printf(b, ", \"code\": \"%s\"", strerrorname_np(-err->code));
	put_text(b, "class", error_class_name(err->cls));
	put_text(b, "message", err->msg);
}

static void end_line(struct probe *p)
{
	(void)buf_puts(&p->line, "}\n");
	if (buf_ok(&p->line) < 0)
		exit(3);
	(void)fwrite(p->line.data, 1, p->line.len, stdout);
	(void)fflush(stdout);
	buf_reset(&p->line);
}

static void answer_done(struct probe *p)
{
	end_line(p);
	if (--p->pending == 0)
		loop_exit(p->loop, 0);
}

/* A command that could not even begin. */
static void refused(struct probe *p, const struct error *err)
{
	(void)buf_puts(&p->line, "{\"refused\": true");
	put_error(&p->line, err);
	end_line(p);
}

static void put_imds_failure(struct buf *b, const struct imds_failure *f)
{
	(void)buf_printf(b, "{\"status\": %d, \"retryAfter\": %.6f", f->status,
			 (double)f->retry_after / (double)USEC_PER_SEC);
	put_text(b, "newest", f->newest_version);
	put_error(b, &f->err);
}

static void on_instance(const struct imds_instance *i, const struct imds_failure *f, void *userdata)
{
	struct probe *p = userdata;

	if (f) {
		put_imds_failure(&p->line, f);
	} else {
		(void)buf_puts(&p->line, "{\"status\": 200");
		put_text(&p->line, "name", i->name);
		put_text(&p->line, "vmId", i->vm_id);
		put_text(&p->line, "location", i->location);
		put_text(&p->line, "environment", i->environment);
		put_text(&p->line, "scaleSet", i->scale_set);
		put_text(&p->line, "vmSize", i->vm_size);
		put_text(&p->line, "resourceId", i->resource_id);
	}
	imds_call_free(TAKE_PTR(p->imds)); /* in its own callback, as handlers do */
	answer_done(p);
}

static void on_bytes(const char *body, size_t len, const struct imds_failure *f, void *userdata)
{
	struct probe *p = userdata;

	if (f) {
		put_imds_failure(&p->line, f);
	} else {
		(void)buf_printf(&p->line, "{\"status\": 200, \"length\": %zu, \"body\": ", len);
		(void)jd_quote(&p->line, body, len);
	}
	imds_call_free(TAKE_PTR(p->imds));
	answer_done(p);
}

/* ---- commands ---- */

static int begin(struct probe *p, char **words, size_t n, struct error *err)
{
	const char *command = n ? words[0] : "";

	p->pending = 1;
	if (str_equal(command, "instance"))
		return imds_get_instance(p->http, on_instance, p, &p->imds, err);
	if (str_equal(command, "userdata"))
		return imds_get_user_data(p->http, on_bytes, p, &p->imds, err);
	if (str_equal(command, "events") && n == 3)
		return imds_get_events(p->http, words[1], strtoull(words[2], NULL, 10) * USEC_PER_MSEC, on_bytes, p,
				       &p->imds, err);
	if (str_equal(command, "ack") && n >= 2)
		return imds_acknowledge(p->http, words[1], (const char *const *)words + 2, on_bytes, p, &p->imds, err);
	return error_set(err, ERROR_USER, -EINVAL, "no such command: %s", command);
}

static void run(struct probe *p, char *line)
{
	char *words[WORDS + 1] = { NULL }, *rest = line, *word;
	struct error err = ERROR_INIT;
	size_t n = 0;

	while (n < WORDS && (word = strsep(&rest, " \n")))
		if (*word)
			words[n++] = word;
	if (begin(p, words, n, &err) < 0)
		refused(p, &err);
	else if (loop_run(p->loop) < 0)
		exit(4);
}

int main(int argc, char **argv)
{
	struct probe p = { .line = BUF_INIT(8UL << 20) };
	struct http_options options = { 0 };
	struct error err = ERROR_INIT;
	_cleanup_free_ char *line = NULL;
	size_t size = 0;

	if (argc != 4)
		return 2;
	options.connect_to = argv[1];
	options.ca_file = argv[2];
	if (loop_new(&p.loop, &err) < 0 || http_new(&p.http, p.loop, &options, &err) < 0) {
		(void)fprintf(stderr, "%s\n", err.msg);
		return 1;
	}
	while (getline(&line, &size, stdin) > 0)
		run(&p, line);
	http_free(p.http);
	loop_free(p.loop);
	buf_done(&p.line);
	return 0;
}
