/*
 * Output as append blobs: every few seconds what is new, after the end the rest. The captured file is the store: a blob that
 * cannot be reached costs neither memory nor the script's time, and gets the same bytes later, up to the same maximum.
 */
#include "agent/app/runner_network.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/azure/append_blob.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/uri.h"
#include "agent/io/loop.h"

#define BLOCK_MAX     (1024UL * 1024) /* of the 4 MiB that the service takes: the client holds a copy */
#define FIRST_USEC    (1 * USEC_PER_SEC)
#define INTERVAL_USEC (5 * USEC_PER_SEC)
#define MANY_BLOCKS   8000 /* of 50,000: after eleven hours of output it comes once a minute, for another month */
#define MARK_MAX      96

struct stream {
	struct upload *upload;
	const char *name;
	char *uri; /* as people may see it; NULL: this stream goes nowhere */
	const struct capture *from;
	struct append_blob *blob;
	uint64_t offset; /* of the next byte to send */
	uint64_t after;	 /* … once the present block is there */
	uint64_t size;	 /* of what the blob has from us */
	uint64_t last;	 /* finally: where the stream ended; what is left running may go on */
	char *block;
	size_t len;
	bool busy, failed;
	struct error why;
};

struct upload {
	struct loop *loop;
	struct sources sources;
	struct loop_timer *timer, *end;
	struct stream streams[2];
	bool final;
};

static void send_more(struct stream *s);
DEFINE_CLEANUP(struct upload *, upload_free)

/* ---- a block ---- */

/* Of what has been left out in the middle the blob tells like the file does. */
static size_t put_mark(char *to, uint64_t left_out)
{
	return (size_t)snprintf(to, MARK_MAX, "\n[evenkeel: %" PRIu64 " bytes left out here]\n", left_out);
}

/* While the job runs a quarter of the maximum is kept for what comes last. */
static uint64_t room(const struct stream *s)
{
	uint64_t max = s->upload->final ? s->from->max : s->from->max / 4 * 3;

	return s->size < max ? max - s->size : 0;
}

static uint64_t end_of(const struct stream *s)
{
	return s->upload->final ? s->last : s->from->produced;
}

static bool fill(struct stream *s)
{
	uint64_t space = room(s), from = s->offset, end = end_of(s);
	size_t n = 0, most = BLOCK_MAX - MARK_MAX;
	ssize_t k;

	if (s->upload->final && end - from > space) {
		/* The beginning first, which the file always has; then what came last. */
		if (from < s->from->max / 2)
			end = s->from->max / 2;
		else
			from = end - (space > MARK_MAX ? space - MARK_MAX : 0);
	}
	if (!space || from >= end)
		return false;
	most = space < most ? (size_t)space : most;
	most = end - from < most ? (size_t)(end - from) : most;
	k = capture_read(s->from, &from, s->block + MARK_MAX, most);
	if (k < 0) {
		s->failed = true;
		(void)error_errno(&s->why, (int)k, "its file cannot be read");
	}
	if (from > s->offset)
		n = put_mark(s->block, from - s->offset);
	if (k <= 0 || n >= space)
		return false;
	k = n + (size_t)k > space ? (ssize_t)(space - n) : k;
	memmove(s->block + n, s->block + MARK_MAX, (size_t)k);
	s->len = n + (size_t)k;
	s->after = from + (uint64_t)k;
	return true;
}

static bool is_over(const struct upload *u)
{
	return !u->streams[0].busy && !u->streams[1].busy;
}

static void on_appended(int result, const struct error *err, void *userdata)
{
	struct stream *s = userdata;

	s->busy = false;
	if (result < 0) {
		s->failed = true;
		s->why = *err;
	} else {
		s->offset = s->after;
		s->size += s->len;
		/* Less than a block waits for the next time. */
		if (s->upload->final || end_of(s) - s->offset >= BLOCK_MAX)
			send_more(s);
	}
	if (s->upload->final && is_over(s->upload))
		loop_exit(s->upload->loop, 0);
}

static void send_more(struct stream *s)
{
	if (!s->blob || s->busy || s->failed || !fill(s))
		return;
	s->busy = true;
	append_blob_put(s->blob, s->block, s->len, on_appended, s);
}

/* ---- while the job runs ---- */

static void on_timer(void *userdata)
{
	struct upload *u = userdata;
	uint64_t blocks = 0;

	for (size_t i = 0; i < ARRAY_SIZE(u->streams); i++) {
		struct stream *s = &u->streams[i];

		send_more(s);
		if (s->blob && append_blob_blocks(s->blob) > blocks)
			blocks = append_blob_blocks(s->blob);
	}
	loop_timer_after(u->timer, blocks > MANY_BLOCKS ? USEC_PER_MINUTE : INTERVAL_USEC);
}

static void on_end(void *userdata)
{
	struct upload *u = userdata;

	loop_exit(u->loop, 0);
}

void upload_finish(struct upload *u, usec_t most)
{
	if (!u)
		return;
	u->final = true;
	loop_timer_stop(u->timer);
	for (size_t i = 0; i < ARRAY_SIZE(u->streams); i++) {
		struct stream *s = &u->streams[i];

		s->last = s->from->produced;
		if (s->blob)
			append_blob_hurry(s->blob);
		send_more(s);
	}
	if (is_over(u))
		return;
	loop_timer_after(u->end, most);
	(void)loop_run(u->loop);
}

/* ---- what is told ---- */

static void tell(const struct stream *s, struct buf *out)
{
	const char *why = s->failed ? s->why.msg : s->blob ? append_blob_trouble(s->blob) : "";

	/* What is neither under way nor refused has been left out because of the maximum. */
	if (!s->failed && !s->busy)
		return;
	(void)buf_printf(out, "%s%s was not sent to %.120s: %.300s (%" PRIu64 " of %" PRIu64 " bytes are there)",
			 out->len ? "; " : "", s->name, s->uri, *why ? why : "no time was left", s->offset, s->last);
}

char *upload_notice(const struct upload *u)
{
	_cleanup_buf_ struct buf text = BUF_INIT(4096);

	if (!u)
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(u->streams); i++)
		tell(&u->streams[i], &text);
	return text.len ? strdup(text.data) : NULL;
}

/* ---- making and ending ---- */

static int open_stream(struct upload *u, struct stream *s, const char *name, const char *uri,
		       bool secret, const struct capture *from, struct error *err)
{
	_cleanup_buf_ struct buf shown = BUF_INIT(LIMIT_URI);

	s->upload = u;
	s->name = name;
	s->from = from;
	if (str_empty(uri))
		return 0;
	(void)uri_redact(uri, secret, &shown);
	s->uri = strdup(buf_str(&shown));
	s->block = malloc(BLOCK_MAX);
	if (!s->uri || !s->block)
		return error_oom(err);
	return append_blob_new(&s->blob, u->loop, u->sources.client, uri, err);
}

static const char *uri_of(const struct job_secrets *secrets, const char *name)
{
	return name ? job_secret(secrets, name) : NULL;
}

int upload_new(struct upload **ret, struct loop *l, const struct job *job, const struct job_secrets *secrets,
	       const struct capture *out, const struct capture *err_stream, struct error *err)
{
	_cleanup_(upload_freep) struct upload *u = NULL;
	int r;

	*ret = NULL;
	if (!job->stdout_uri && !job->stderr_uri)
		return 0;
	u = calloc(1, sizeof(*u));
	if (!u)
		return error_oom(err);
	u->loop = l;
	r = sources_open(&u->sources, l, job, secrets, "racw", err);
	if (r >= 0)
		r = open_stream(u, &u->streams[0], "the standard output", uri_of(secrets, job->stdout_uri),
				job->secret_uris, out, err);
	if (r >= 0)
		r = open_stream(u, &u->streams[1], "the standard error", uri_of(secrets, job->stderr_uri),
				job->secret_uris, err_stream, err);
	if (r >= 0 && (loop_timer_new(l, "upload", on_timer, u, &u->timer) < 0 ||
		       loop_timer_new(l, "upload-end", on_end, u, &u->end) < 0))
		r = error_oom(err);
	if (r < 0)
		return r;
	loop_timer_after(u->timer, FIRST_USEC);
	*ret = TAKE_PTR(u);
	return 0;
}

void upload_free(struct upload *u)
{
	if (!u)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(u->streams); i++) {
		append_blob_free(u->streams[i].blob);
		free(u->streams[i].block);
		free(u->streams[i].uri);
	}
	sources_close(&u->sources);
	loop_timer_free(u->timer);
	loop_timer_free(u->end);
	free(u);
}
