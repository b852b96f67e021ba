/* An append blob: a small machine of three requests (make it, look where it ends, append), each tried again by itself. */
#include "agent/azure/append_blob.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/azure/blob_client.h"
#include "agent/azure/service.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/random.h"
#include "agent/base/secret.h"
#include "agent/base/str.h"
#include "agent/core/retry.h"
#include "agent/io/http.h"
#include "agent/io/loop.h"

#define REQUEST_USEC (60 * USEC_PER_SEC)
#define UNKNOWN	     INT64_MIN
#define TURNS_MAX    20 /* the way back from appending, without anything appended */

/* clang-format off */
static const struct retry_rule rules[] = {
	{   0,   0, RETRY_AFTER, 2 * USEC_PER_SEC, USEC_PER_MINUTE, 0 },
	{ 408, 408, RETRY_AFTER, 2 * USEC_PER_SEC, USEC_PER_MINUTE, 0 },
	{ 429, 429, RETRY_AFTER, 2 * USEC_PER_SEC, USEC_PER_MINUTE, 0 },
	{ 500, 599, RETRY_AFTER, 2 * USEC_PER_SEC, USEC_PER_MINUTE, 0 },
	{ .from = -1 },
};
/* clang-format on */
static const struct retry_policy policy = { "append", rules, 10, 2 * USEC_PER_MINUTE };

enum step { STEP_CREATE, STEP_LOOK, STEP_APPEND };

struct append_blob {
	struct loop *loop;
	struct blob_client *client;
	char *uri;
	enum step step;
	int64_t position;
	uint64_t blocks;
	unsigned turns;
	struct retry_state retry;
	struct loop_timer *timer;
	struct blob_call *call;
	const void *data; /* NULL: nothing to append */
	size_t len;
	append_fn done;
	void *userdata;
	struct error refused; /* why it could not be made, if that was forbidden */
	char trouble[400];
};

static void on_answer(const struct blob_answer *a, void *userdata);

/* ---- ends ---- */

static void finish(struct append_blob *b, int result, const struct error *err)
{
	b->data = NULL;
	b->turns = 0;
	b->trouble[0] = '\0';
	retry_succeeded(&b->retry);
	b->done(result, err, b->userdata);
}

static void appended(struct append_blob *b, int64_t end)
{
	b->position = end;
	finish(b, 0, NULL);
}

static void give_up(struct append_blob *b, int result, const char *why)
{
	struct error e = ERROR_INIT;

	(void)error_set(&e, ERROR_PLATFORM, result, "%.400s", why);
	finish(b, e.code, &e);
}

static void go(struct append_blob *b, enum step step)
{
	b->step = step;
	if (++b->turns > TURNS_MAX)
		give_up(b, -EBUSY, "something else writes to the blob all the time");
	else
		loop_timer_after(b->timer, 0);
}

static void try_again(struct append_blob *b, const struct blob_answer *a, const char *why)
{
	const struct http_response *resp = a->http;
	int status = resp && resp->result == 0 ? (int)resp->status : 0;
	usec_t wait;

	(void)snprintf(b->trouble, sizeof(b->trouble), "%s", why);
	if (retry_failed(&policy, &b->retry, status, status ? service_retry_after(resp) : 0, random_jitter(),
			 loop_now_boot(b->loop), &wait) == RETRY_AFTER)
		loop_timer_after(b->timer, wait);
	else
		give_up(b, service_status_errno(status), why);
}

/* ---- answers ---- */

static bool header_number(const struct http_response *resp, const char *name, uint64_t *ret)
{
	const char *text = http_response_header(resp, name);

	return text && str_to_u64(text, INT64_MAX, ret);
}

static bool is_refused(long status)
{
	return status == 401 || status == 403;
}

static bool says(const struct http_response *resp, const char *code)
{
	const char *word = http_response_header(resp, "x-ms-error-code");

	return word && str_equal(word, code);
}

static void on_created(struct append_blob *b, const struct blob_answer *a, const char *why)
{
	long status = a->http->status;

	if (status == 201) {
		b->position = 0;
		go(b, STEP_APPEND);
	} else if ((status == 409 && says(a->http, "BlobAlreadyExists")) || status == 412) {
		go(b, STEP_LOOK);
	} else if (is_refused(status)) {
		/* A signature may allow nothing but to append to what is there. */
		(void)error_set(&b->refused, ERROR_PLATFORM, -EACCES, "%.400s", why);
		go(b, STEP_LOOK);
	} else {
		try_again(b, a, why);
	}
}

/* Also after a block whose place is taken: then it was sent before, by us or, on a connection that had died, by the client
 * itself, and its answer was lost; or somebody else writes here, too. */
static void on_looked(struct append_blob *b, const struct blob_answer *a, const char *why)
{
	const char *type = http_response_header(a->http, "x-ms-blob-type");
	int64_t expected = b->position == UNKNOWN ? UNKNOWN : b->position + (int64_t)b->len;
	uint64_t length;

	if (a->http->status == 404 && b->refused.code) {
		give_up(b, -EACCES, b->refused.msg);
	} else if (a->http->status == 404) {
		go(b, STEP_CREATE);
	} else if (is_refused(a->http->status)) {
		if (b->position != UNKNOWN) {
			appended(b, expected);
			return;
		}
		b->position = UNKNOWN;
		go(b, STEP_APPEND);
	} else if (a->http->status != 200) {
		try_again(b, a, why);
	} else if (type && !str_equal(type, "AppendBlob")) {
		(void)snprintf(b->trouble, sizeof(b->trouble),
			       "the blob is there already, as a %.40s, and only an AppendBlob grows", type);
		give_up(b, -EEXIST, b->trouble);
	} else if (!header_number(a->http, "Content-Length", &length)) {
		give_up(b, -EPROTO, "the server does not say how long the blob is");
	} else if ((int64_t)length == expected) {
		appended(b, expected);
	} else {
		b->position = (int64_t)length;
		go(b, STEP_APPEND);
	}
}

static void on_appended(struct append_blob *b, const struct blob_answer *a, const char *why)
{
	uint64_t offset;

	if (a->http->status == 201) {
		(void)header_number(a->http, "x-ms-blob-committed-block-count", &b->blocks);
		if (header_number(a->http, "x-ms-blob-append-offset", &offset))
			b->position = (int64_t)offset;
		appended(b, b->position == UNKNOWN ? UNKNOWN : b->position + (int64_t)b->len);
	} else if (a->http->status == 412 && says(a->http, "AppendPositionConditionNotMet")) {
		go(b, STEP_LOOK);
	} else if (a->http->status == 404 && b->refused.code) {
		give_up(b, -EACCES, b->refused.msg);
	} else if (a->http->status == 404) {
		/* Somebody has removed it. */
		b->position = UNKNOWN;
		go(b, STEP_CREATE);
	} else {
		try_again(b, a, why);
	}
}

static void on_answer(const struct blob_answer *a, void *userdata)
{
	struct append_blob *b = userdata;
	char why[400];

	blob_describe(a, b->uri, true, why, sizeof(why));
	blob_call_free(TAKE_PTR(b->call)); /* lasts until we return */
	if (!a->http || a->http->result < 0) {
		try_again(b, a, why);
	} else if (b->step == STEP_CREATE) {
		on_created(b, a, why);
	} else if (b->step == STEP_LOOK) {
		on_looked(b, a, why);
	} else {
		on_appended(b, a, why);
	}
}

/* ---- requests ---- */

static void ask(void *userdata)
{
	static const char *const create[] = { "x-ms-blob-type: AppendBlob", "If-None-Match: *",
					      "x-ms-blob-content-type: text/plain; charset=utf-8", NULL };
	static const char *const nothing[] = { NULL };
	struct append_blob *b = userdata;
	char position[64];
	const char *append[] = { b->position == UNKNOWN ? NULL : position, NULL };
	struct blob_request req = {
		.uri = b->uri,
		.http = { .method = "PUT",
			  .headers = create,
			  .body = "",
			  .timeout_usec = REQUEST_USEC,
			  .max_body = LIMIT_ERROR_BODY },
	};
	struct error e = ERROR_INIT;

	if (!b->data)
		return;
	if (b->step == STEP_LOOK) {
		req.http.method = "HEAD";
		req.http.headers = nothing;
		req.http.body = NULL;
	} else if (b->step == STEP_APPEND) {
		(void)snprintf(position, sizeof(position), "x-ms-blob-condition-appendpos: %" PRId64, b->position);
		req.query = "comp=appendblock";
		req.http.headers = append;
		req.http.body = b->data;
		req.http.body_len = b->len;
	}
	if (blob_submit(b->client, &req, on_answer, b, &b->call, &e) < 0)
		finish(b, e.code, &e);
}

void append_blob_put(struct append_blob *b, const void *data, size_t len, append_fn done, void *userdata)
{
	b->data = data;
	b->len = len;
	b->done = done;
	b->userdata = userdata;
	loop_timer_after(b->timer, 0);
}

void append_blob_hurry(struct append_blob *b)
{
	if (b->data && !b->call)
		loop_timer_after(b->timer, 0);
}

const char *append_blob_trouble(const struct append_blob *b)
{
	return b->trouble;
}

uint64_t append_blob_blocks(const struct append_blob *b)
{
	return b->blocks;
}

int append_blob_new(struct append_blob **ret, struct loop *loop, struct blob_client *client, const char *uri,
		    struct error *err)
{
	_cleanup_(append_blob_freep) struct append_blob *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return error_oom(err);
	*b = (struct append_blob){ .loop = loop, .client = client, .uri = strdup(uri), .position = UNKNOWN };
	if (!b->uri)
		return error_oom(err);
	r = loop_timer_new(loop, "append", ask, b, &b->timer);
	if (r < 0)
		return error_errno(err, r, "cannot make a timer");
	*ret = TAKE_PTR(b);
	return 0;
}

void append_blob_free(struct append_blob *b)
{
	if (!b)
		return;
	blob_call_free(b->call);
	loop_timer_free(b->timer);
	erase_and_free(b->uri);
	free(b);
}
