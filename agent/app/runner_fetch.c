/* One download: asked for, received, asked for again from where it broke off, and judged by what the server says. */
#include "agent/app/runner_fetch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/app/runner_fetch_rules.h"
#include "agent/app/runner_receive.h"
#include "agent/app/runner_version.h"
#include "agent/azure/blob_client.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/random.h"
#include "agent/base/str.h"
#include "agent/codec/timefmt.h"
#include "agent/codec/uri.h"
#include "agent/core/exit_codes.h"
#include "agent/io/http.h"
#include "agent/io/loop.h"

#define REDIRECTS    5
#define PROGRESS_MIN (1024UL * 1024) /* an attempt that brought so much is none of those that are counted */
#define WHY_MAX	     420

struct fetch {
	struct fetch_request q;
	fetch_done_fn done;
	void *userdata;
	struct receive file;
	struct blob_call *call;
	struct loop_timer *timer; /* of a stall while it is asked, of the next attempt between */
	struct retry_state retry;
	unsigned attempt;
	usec_t until;

	struct version version; /* what is received later must be of the same */
	uint64_t best;		/* the most that any attempt has had */
	bool never_resume;	/* the server has told a lie about parts */
	bool as_it_is;		/* it calls an encoding what is none */

	/* Of this attempt. */
	bool resuming, began, too_large;
	const char *lie; /* an answer that cannot be true */
	int local_error; /* this machine's: not tried again */

	/* A blob that the identity may not read may be public all the same. */
	bool anonymous;
	int first_code;
	char first_why[WHY_MAX];

	char trouble[WHY_MAX]; /* of the last attempt */
};

static void attempt(struct fetch *f);

/* ---- ends ---- */

/* The name may be long and the URI longer: what went wrong counts more. */
static void fail(struct fetch *f, int code, const char *why)
{
	_cleanup_buf_ struct buf uri = BUF_INIT(LIMIT_URI);
	struct error e = ERROR_INIT;
	char both[WHY_MAX + 200];

	loop_timer_stop(f->timer);
	(void)uri_redact(f->q.uri, f->q.secret_uri, &uri);
	(void)snprintf(both, sizeof(both), "%s", why);
	if (f->anonymous) {
		const char *id = strstr(why, " (request id");

		code = f->first_code;
		(void)snprintf(both, sizeof(both), "%s; without the identity %.*s", f->first_why,
			       id && id - why < 120 ? (int)(id - why) : 120, why);
	}
	(void)error_set(&e, ERROR_USER, -EIO, "cannot download %.80s from %.140s: attempt %u of %u: %s",
			f->q.download->name, buf_str(&uri), f->attempt, f->q.limits->attempts, both);
	f->done(code, &e, f->userdata);
}

static void fail_with(struct fetch *f, int code, const struct error *err)
{
	fail(f, code, err->msg);
}

static void try_again_or_fail(struct fetch *f, int status, usec_t retry_after, int code, const char *why)
{
	usec_t now = loop_now_boot(f->q.loop), wait;

	(void)snprintf(f->trouble, sizeof(f->trouble), "%s", why);
	if (f->file.received > f->best && f->file.received - f->best >= PROGRESS_MIN) {
		retry_succeeded(&f->retry);
		f->attempt = 0;
	}
	if (f->file.received > f->best)
		f->best = f->file.received;
	if (f->attempt < f->q.limits->attempts && now < f->until &&
	    retry_failed(f->q.limits->policy, &f->retry, status, retry_after, random_jitter(), now, &wait) ==
		    RETRY_AFTER)
		loop_timer_at(f->timer, usec_min(usec_add(now, wait), f->until));
	else
		fail(f, code, why);
}

/* ---- what comes ---- */

/* A whole file begins: what there was of an earlier one goes. */
static int begin_whole(struct fetch *f, const struct http_response *resp)
{
	struct error e = ERROR_INIT;

	if (f->resuming) {
		f->local_error = receive_begin(&f->file, &e);
		if (f->local_error < 0)
			return f->local_error;
	}
	f->resuming = false;
	f->version = version_of(resp);
	return 0;
}

static int on_head(const struct http_response *resp, void *userdata)
{
	struct fetch *f = userdata;
	int r = 0;

	f->began = true;
	if (resp->status == 206)
		f->lie = f->resuming ? version_check_part(&f->version, resp, f->file.received)
				     : "it gives a part (206) that was not asked for";
	else if (resp->status == 200)
		r = begin_whole(f, resp);
	else
		f->lie = "it answers with a status that means no file";
	if (f->lie)
		return -EBADMSG;
	f->too_large = f->version.total != VERSION_UNKNOWN && f->version.total > (uint64_t)f->q.download->max_bytes;
	return r < 0 ? r : f->too_large ? -EFBIG : 0;
}

static int on_body(const void *data, size_t len, void *userdata)
{
	struct fetch *f = userdata;

	loop_timer_after(f->timer, f->q.limits->stall_usec);
	f->too_large = f->file.received + len > (uint64_t)f->q.download->max_bytes;
	if (f->too_large)
		return -EFBIG;
	f->local_error = receive_put(&f->file, data, len);
	return f->local_error;
}

/* ---- what it amounts to ---- */

static void complete(struct fetch *f)
{
	const struct job_download *d = f->q.download;
	char hex[SHA256_HEX_MAX], why[200];
	struct error e = ERROR_INIT;

	if (receive_end(&f->file, hex, &e) < 0) {
		fail_with(f, CODE_INTERNAL, &e);
		return;
	}
	if (d->sha256 && !str_equal_nocase(d->sha256, hex)) {
		(void)snprintf(why, sizeof(why), "its SHA-256 is %s, the settings say %.64s", hex, d->sha256);
		fail(f, CODE_BODY_FAILED, why);
		return;
	}
	if (receive_finish(&f->file, d->owner, d->mode, f->q.user, &e) < 0) {
		fail_with(f, CODE_INTERNAL, &e);
		return;
	}
	f->done(CODE_NONE, NULL, f->userdata);
}

static void broke_off(struct fetch *f, int code, const char *how)
{
	char why[WHY_MAX], of[40] = "";

	if (f->version.total != VERSION_UNKNOWN)
		(void)snprintf(of, sizeof(of), " of %" PRIu64, f->version.total);
	(void)snprintf(why, sizeof(why), "%s, with %" PRIu64 "%s bytes here", how, f->file.received, of);
	try_again_or_fail(f, f->began ? FETCH_BROKEN_OFF : 0, 0, code, why);
}

/* The identity's own refusal is the one that is told, if nothing else helps. */
static bool go_on_without_identity(struct fetch *f, const struct blob_answer *a, const char *why)
{
	long status = a->http ? a->http->status : 0;

	if (a->right != BLOB_IDENTITY || (a->http && status != 401 && status != 403))
		return false;
	f->anonymous = true;
	f->first_code = a->http ? fetch_code(a->right, status) : CODE_IMDS_ERROR;
	(void)snprintf(f->first_why, sizeof(f->first_why), "%s", why);
	f->attempt--;
	attempt(f);
	return true;
}

static bool is_final(int result)
{
	return result == -ELOOP || result == -EPROTONOSUPPORT || result == -EACCES || result == -ENOMEM;
}

/* No answer, or one that did not come to its end. */
static void on_failure(struct fetch *f, const struct http_response *resp, const char *why)
{
	char limit[TIMEFMT_MAX], text[WHY_MAX];
	int code = resp->result == -ETIMEDOUT ? CODE_TIMEOUT : f->began ? CODE_BODY_FAILED : CODE_DOWNLOAD_FAILED;

	if (f->too_large) {
		(void)snprintf(text, sizeof(text), "it is larger than maxSizeInBytes, %" PRId64,
			       f->q.download->max_bytes);
		fail(f, CODE_BODY_FAILED, text);
	} else if (f->local_error < 0) {
		(void)snprintf(text, sizeof(text), "it cannot be stored here: %s", strerror(-f->local_error));
		fail(f, CODE_INTERNAL, text);
	} else if (f->lie) {
		f->never_resume = true;
		(void)snprintf(text, sizeof(text), "the server cannot be understood: %s, status %ld", f->lie,
			       resp->status);
		try_again_or_fail(f, FETCH_BROKEN_OFF, 0, resp->status == 206 ? CODE_BODY_FAILED : CODE_DOWNLOAD_FAILED,
				  text);
	} else if (loop_now_boot(f->q.loop) >= f->until) {
		timefmt_span(f->q.limits->total_usec, limit);
		(void)snprintf(text, sizeof(text),
			       "it was not done after %s, the limit of all attempts; the last: %.250s", limit, why);
		fail(f, CODE_TIMEOUT, text);
	} else if (is_final(resp->result)) {
		fail(f, code, why);
	} else if (resp->result == -ENOTSUP && !f->as_it_is) {
		f->as_it_is = true;
		try_again_or_fail(f, FETCH_BROKEN_OFF, 0, code, why);
	} else if (f->began) {
		broke_off(f, code, why);
	} else {
		try_again_or_fail(f, 0, 0, code, why);
	}
}

static void on_whole(struct fetch *f, const struct http_response *resp)
{
	if (!f->began && on_head(resp, f) < 0)
		on_failure(f, resp, "");
	else if (f->version.total != VERSION_UNKNOWN && f->file.received != f->version.total)
		broke_off(f, CODE_BODY_FAILED, "the server gave less than it said");
	else
		complete(f);
}

static void on_answer(const struct blob_answer *a, void *userdata)
{
	struct fetch *f = userdata;
	const struct http_response *resp = a->http;
	const char *after = resp ? http_response_header(resp, "Retry-After") : NULL;
	char why[WHY_MAX];

	loop_timer_stop(f->timer);
	blob_describe(a, f->q.uri, false, why, sizeof(why));
	if (go_on_without_identity(f, a, why))
		return;
	blob_call_free(TAKE_PTR(f->call)); /* lasts until we return */
	if (!resp) {
		fail(f, a->error->cls == ERROR_USER ? CODE_BAD_URI : CODE_IMDS_ERROR, why);
	} else if (resp->result < 0) {
		on_failure(f, resp, why);
	} else if (resp->status == 200 || resp->status == 206) {
		on_whole(f, resp);
	} else if (f->resuming && (resp->status == 412 || resp->status == 416)) {
		/* It has changed meanwhile: all of it anew. */
		f->version = version_none;
		try_again_or_fail(f, FETCH_BROKEN_OFF, 0, CODE_BODY_FAILED, "the file changes all the time");
	} else {
		try_again_or_fail(f, (int)resp->status, after ? retry_after_parse(after, loop_now_wall(f->q.loop)) : 0,
				  fetch_code(a->right, resp->status), why);
	}
}

/* ---- asking ---- */

/* If-Range is what the web understands, If-Match what storage does. */
static void attempt(struct fetch *f)
{
	const struct fetch_limits *limits = f->q.limits;
	char range[64], if_range[LIMIT_ETAG + 16], if_match[LIMIT_ETAG + 16];
	const char *const headers[] = { range, if_range, if_match, NULL };
	usec_t now = loop_now_boot(f->q.loop);
	struct error e = ERROR_INIT;
	int r = 0;

	blob_call_free(TAKE_PTR(f->call));
	f->attempt++;
	f->resuming = f->file.received > 0 && f->version.etag[0] && !f->never_resume;
	f->began = f->too_large = false;
	f->lie = NULL;
	f->local_error = 0;
	if (f->resuming) {
		(void)snprintf(range, sizeof(range), "Range: bytes=%" PRIu64 "-", f->file.received);
		(void)snprintf(if_range, sizeof(if_range), "If-Range: %s", f->version.etag);
		(void)snprintf(if_match, sizeof(if_match), "If-Match: %s", f->version.etag);
	} else {
		f->version = version_none;
		r = receive_begin(&f->file, &e);
	}
	if (r >= 0) {
		const struct blob_request request = {
			.uri = f->q.uri,
			.anonymous = f->anonymous,
			.http = { .headers = f->resuming ? headers : NULL,
				  .timeout_usec = usec_max(usec_sub(f->until, now), USEC_PER_MSEC),
				  .connect_timeout_usec = limits->connect_usec,
				  .max_body = SIZE_MAX / 2, /* counted here, over all attempts */
				  .max_redirects = REDIRECTS,
				  .decode = !f->as_it_is,
				  .sink = on_body,
				  .head = on_head },
		};

		r = blob_submit(f->q.client, &request, on_answer, f, &f->call, &e);
	}
	if (r < 0)
		fail_with(f, e.cls == ERROR_USER ? CODE_BAD_URI : CODE_INTERNAL, &e);
	else
		loop_timer_after(f->timer, limits->stall_usec);
}

static void on_timer(void *userdata)
{
	struct fetch *f = userdata;
	char span[TIMEFMT_MAX], why[WHY_MAX];

	if (!f->call) {
		attempt(f);
		return;
	}
	if (!blob_call_asked(f->call)) {
		loop_timer_after(f->timer, f->q.limits->stall_usec); /* tokens have a limit of their own */
		return;
	}
	blob_call_free(TAKE_PTR(f->call));
	timefmt_span(f->q.limits->stall_usec, span);
	(void)snprintf(why, sizeof(why), "%s: nothing came for %s", f->began ? "receiving" : "waiting for an answer",
		       span);
	broke_off(f, CODE_TIMEOUT, why);
}

const char *fetch_trouble(const struct fetch *f)
{
	return f->trouble;
}

void fetch_start(struct fetch *f)
{
	f->until = usec_add(loop_now_boot(f->q.loop), f->q.limits->total_usec);
	loop_timer_after(f->timer, 0); /* so that the callback comes from the loop */
}

void fetch_free(struct fetch *f)
{
	if (!f)
		return;
	blob_call_free(f->call);
	loop_timer_free(f->timer);
	receive_done(&f->file);
	free(f);
}
DEFINE_CLEANUP(struct fetch *, fetch_free)

int fetch_new(struct fetch **ret, const struct fetch_request *q, fetch_done_fn done, void *userdata, struct error *err)
{
	_cleanup_(fetch_freep) struct fetch *f = calloc(1, sizeof(*f));

	if (!f)
		return error_oom(err);
	*f = (struct fetch){ .q = *q, .done = done, .userdata = userdata, .file.fd = -1, .version = version_none };
	if (receive_init(&f->file, q->directory, q->download->name, q->number) < 0 ||
	    loop_timer_new(q->loop, "download", on_timer, f, &f->timer) < 0)
		return error_oom(err);
	f->file.may_convert = q->may_convert;
	f->file.hashed = q->download->sha256;
	*ret = TAKE_PTR(f);
	return 0;
}
