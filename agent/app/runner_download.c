/*
 * Files for a script: several at a time, streamed to disk, each tried again by the platform's habits, checked,
 * converted on the way, and under its name only when all of that is done.
 */
#include "agent/app/runner.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/azure/identity.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/random.h"
#include "agent/base/secret.h"
#include "agent/base/str.h"
#include "agent/codec/digest.h"
#include "agent/codec/timefmt.h"
#include "agent/codec/uri.h"
#include "agent/core/exit_codes.h"
#include "agent/core/retry.h"
#include "agent/core/settings_common.h"
#include "agent/io/http.h"
#include "agent/io/loop.h"

#define ATTEMPT_USEC	(6 * USEC_PER_HOUR) /* the stall below ends what does not move */
#define CONNECT_USEC	(30 * USEC_PER_SEC)
#define STALL_USEC	(60 * USEC_PER_SEC)
#define REDIRECTS	5
#define HEAD_SIZE	64 /* what is looked at to tell a script from other files */
#define IDENTITY_ENDPOINT "http://169.254.169.254/metadata/identity"
#define STORAGE_RESOURCE  "https://storage.azure.com/"

/* clang-format off */
/* As Custom Script does: 3, 6, 12 … s, about 190 s in all; what cannot mend itself is not tried again. */
static const struct retry_rule rules[] = {
	{ 0,   0,   RETRY_AFTER, 3 * USEC_PER_SEC, 96 * USEC_PER_SEC, 190 * USEC_PER_SEC },
	{ 408, 408, RETRY_AFTER, 3 * USEC_PER_SEC, 96 * USEC_PER_SEC, 190 * USEC_PER_SEC },
	{ 429, 429, RETRY_AFTER, 3 * USEC_PER_SEC, 96 * USEC_PER_SEC, 190 * USEC_PER_SEC },
	{ 500, 500, RETRY_AFTER, 3 * USEC_PER_SEC, 96 * USEC_PER_SEC, 190 * USEC_PER_SEC },
	{ 502, 504, RETRY_AFTER, 3 * USEC_PER_SEC, 96 * USEC_PER_SEC, 190 * USEC_PER_SEC },
	{ .from = -1 },
};
/* clang-format on */
static const struct retry_policy policy = { "download", rules, 10, 2 * USEC_PER_MINUTE };

enum conversion { CONVERT_UNDECIDED, CONVERT_YES, CONVERT_NO };

struct all;

struct download {
	struct all *all;
	const struct job_download *d;
	const char *uri;
	bool begun, done;
	struct http_call *call;
	struct token_call *token_call;
	struct loop_timer *timer; /* of a stall while it runs, of the next try between */
	struct retry_state retry;
	char *path, *made;
	int fd;
	struct sha256 *hash;
	enum conversion conversion;
	struct text_convert convert;
	unsigned char head[HEAD_SIZE];
	size_t n_head;
	int local_error; /* this machine's: not tried again */
	bool with_token;
};

struct all {
	struct loop *loop;
	struct http *http;
	struct tokens *tokens;
	const struct job *job;
	const struct runner_user *user;
	struct download *list;
	size_t n;
	int code;
	struct error *err;
};

static void start_more(struct all *a);
static void attempt(struct download *d);

/* ---- ends ---- */

_printf_(3, 4) static void fail(struct download *d, int code, const char *fmt, ...)
{
	_cleanup_buf_ struct buf uri = BUF_INIT(LIMIT_URI);
	char why[300];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	(void)uri_redact(d->uri, &uri);
	d->all->code = code;
	(void)error_set(d->all->err, ERROR_USER, -EIO, "cannot download %s from %.160s: %s", d->d->name, buf_str(&uri), why);
	loop_exit(d->all->loop, DOWNLOADS_FAILED);
}

static void drop_file(struct download *d)
{
	closep(&d->fd);
	if (d->made)
		(void)unlink(d->made);
	sha256_free(d->hash);
	d->hash = NULL;
}

/* ---- the body ---- */

static int put(struct download *d, const void *data, size_t len)
{
	_cleanup_buf_ struct buf out = BUF_INIT(4 * len + 64);
	int r;

	if (d->conversion == CONVERT_NO)
		return fs_write_all(d->fd, data, len);
	r = text_convert_feed(&d->convert, data, len, &out);
	return r < 0 ? r : fs_write_all(d->fd, buf_str(&out), out.len);
}

static int decide(struct download *d)
{
	d->conversion = d->all->job->convert_line_endings && text_is_script(d->d->name, d->head, d->n_head) ? CONVERT_YES :
													      CONVERT_NO;
	return put(d, d->head, d->n_head);
}

static int take(struct download *d, const unsigned char *data, size_t len)
{
	int r = sha256_update(d->hash, data, len);

	while (r >= 0 && d->conversion == CONVERT_UNDECIDED && len) {
		d->head[d->n_head++] = *data++;
		len--;
		if (d->n_head == HEAD_SIZE)
			r = decide(d);
	}
	return r < 0 || !len ? r : put(d, data, len);
}

static int on_body(const void *data, size_t len, void *userdata)
{
	struct download *d = userdata;

	loop_timer_after(d->timer, STALL_USEC);
	d->local_error = take(d, data, len);
	return d->local_error;
}

static int put_end(struct download *d)
{
	_cleanup_buf_ struct buf out = BUF_INIT(64);
	int r = d->conversion == CONVERT_UNDECIDED ? decide(d) : 0;

	if (r < 0 || d->conversion == CONVERT_NO)
		return r;
	r = text_convert_end(&d->convert, &out);
	return r < 0 ? r : fs_write_all(d->fd, buf_str(&out), out.len);
}

/* ---- a whole file ---- */

static int set_owner(struct download *d, struct error *err)
{
	_cleanup_(runner_user_done) struct runner_user owner = { 0 };
	mode_t mode = (mode_t)strtoul(d->d->mode ? d->d->mode : "0500", NULL, 8);
	int r = runner_user_find(d->d->owner, &owner, err);

	if (r < 0)
		return r;
	/* Root's own file, closed to others, would be of no use to the user whose script it is for. */
	if (d->all->user->switched && owner.uid == 0 && !(mode & 07)) {
		owner.uid = d->all->user->uid;
		owner.gid = d->all->user->gid;
	}
	if (((owner.uid != geteuid() || owner.gid != getegid()) && fchown(d->fd, owner.uid, owner.gid) < 0) ||
	    fchmod(d->fd, mode) < 0)
		return error_errno(err, -errno, "cannot set owner and mode");
	return 0;
}

static void complete(struct download *d)
{
	struct error e = ERROR_INIT;
	char hex[SHA256_HEX_MAX];
	int r = put_end(d);

	if (r < 0) {
		fail(d, CODE_INTERNAL, "%s", strerror(-r));
		return;
	}
	if (sha256_final_hex(d->hash, hex) < 0) {
		fail(d, CODE_INTERNAL, "its checksum cannot be made");
		return;
	}
	if (d->d->sha256 && !str_equal_nocase(d->d->sha256, hex)) {
		fail(d, CODE_BODY_FAILED, "its SHA-256 is %s, the settings say %s", hex, d->d->sha256);
		return;
	}
	if (set_owner(d, &e) < 0) {
		fail(d, CODE_INTERNAL, "%s", e.msg);
		return;
	}
	closep(&d->fd);
	if (rename(d->made, d->path) < 0) {
		fail(d, CODE_INTERNAL, "%s: %s", d->path, strerror(errno));
		return;
	}
	d->done = true;
	drop_file(d);
	start_more(d->all);
}

/* ---- answers ---- */

static int code_of(const struct download *d, long status)
{
	switch (status) {
	case 0:
		return CODE_DOWNLOAD_FAILED;
	case 400:
		return CODE_STORAGE_BAD_REQUEST;
	case 401:
	case 403:
		return d->with_token ? CODE_IDENTITY_DENIED : CODE_ACCESS_DENIED;
	case 404:
		return d->with_token ? CODE_IDENTITY_NOT_FOUND : CODE_NOT_FOUND;
	default:
		return d->with_token ? CODE_IDENTITY_FAILED : CODE_DOWNLOAD_FAILED;
	}
}

static const char *advice(const struct download *d, long status)
{
	if (status == 401 || status == 403)
		return d->with_token ? "; the identity needs the role Storage Blob Data Reader" :
				       "; it needs a signature that is valid, or an identity";
	return status == 404 ? "; it does not exist, or is not public" : "";
}

static void try_again_or_fail(struct download *d, long status, usec_t retry_after, int code, const char *why)
{
	usec_t wait;

	http_call_free(d->call);
	d->call = NULL;
	drop_file(d);
	if (d->local_error < 0)
		fail(d, CODE_INTERNAL, "%s", strerror(-d->local_error));
	else if (retry_failed(&policy, &d->retry, (int)status, retry_after, random_jitter(), loop_now_boot(d->all->loop),
			      &wait) == RETRY_AFTER)
		loop_timer_after(d->timer, wait);
	else
		fail(d, code, "%s%s", why, d->retry.attempts > 1 ? " (tried several times)" : "");
}

static void on_answer(const struct http_response *resp, void *userdata)
{
	struct download *d = userdata;
	const char *word = http_response_header(resp, "x-ms-error-code");
	const char *request = http_response_header(resp, "x-ms-request-id");
	const char *after = http_response_header(resp, "Retry-After");
	char why[300];

	loop_timer_stop(d->timer);
	if (resp->result == 0 && resp->status == 200) {
		http_call_free(d->call);
		d->call = NULL;
		complete(d);
		return;
	}
	if (resp->result == -EFBIG) {
		fail(d, CODE_BODY_FAILED, "it is larger than maxSizeInBytes, %" PRId64, d->d->max_bytes);
		return;
	}
	if (resp->result < 0) {
		(void)snprintf(why, sizeof(why), "%s", resp->detail ? resp->detail : strerror(-resp->result));
		try_again_or_fail(d, 0, 0, resp->status == 200 ? CODE_BODY_FAILED : CODE_DOWNLOAD_FAILED, why);
		return;
	}
	(void)snprintf(why, sizeof(why), "the server says %ld%s%.60s%s%s%.60s%s", resp->status, word ? " " : "", word ? word : "",
		       advice(d, resp->status), request ? " (request id " : "", request ? request : "", request ? ")" : "");
	try_again_or_fail(d, resp->status, after ? retry_after_parse(after, loop_now_wall(d->all->loop)) : 0, code_of(d, resp->status),
			  why);
}

/* ---- asking ---- */

static int open_file(struct download *d, struct error *err)
{
	int r = fs_unlink(d->made, err);

	if (r >= 0)
		r = sha256_new(&d->hash) < 0 ? error_oom(err) : 0;
	if (r < 0)
		return r;
	d->conversion = CONVERT_UNDECIDED;
	d->convert = (struct text_convert){ 0 };
	d->n_head = 0;
	d->fd = open(d->made, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	return d->fd < 0 ? error_errno(err, -errno, "%s", d->made) : 0;
}

static void ask(struct download *d, const char *token)
{
	_cleanup_erase_ char *authorization = token ? str_format("Authorization: Bearer %s", token) : NULL;
	const char *const headers[] = { "x-ms-version: 2018-03-28", authorization, NULL };
	const struct http_request request = { .url = d->uri,
					      .headers = d->with_token ? headers : NULL,
					      .timeout_usec = ATTEMPT_USEC,
					      .connect_timeout_usec = CONNECT_USEC,
					      .max_body = (size_t)d->d->max_bytes,
					      .max_redirects = REDIRECTS,
					      .sink = on_body,
					      .secret = true };
	struct error e = ERROR_INIT;
	int r = token && !authorization ? error_oom(&e) : open_file(d, &e);

	if (r >= 0)
		r = http_submit(d->all->http, &request, on_answer, d, &d->call, &e);
	if (r < 0)
		fail(d, CODE_INTERNAL, "%s", e.msg);
	else
		loop_timer_after(d->timer, STALL_USEC);
}

static void on_token(const char *token, const char *who, const struct error *err, void *userdata)
{
	struct download *d = userdata;

	(void)who;
	token_call_free(d->token_call);
	d->token_call = NULL;
	if (token)
		ask(d, token);
	else
		fail(d, CODE_IMDS_ERROR, "no token of the managed identity: %s", err->msg);
}

/* A token goes to the platform's blob hosts only, and only encrypted; a signature needs none. */
static bool wants_token(const struct download *d)
{
	static const char *const hosts[] = { ".core.windows.net", ".core.chinacloudapi.cn", ".core.usgovcloudapi.net",
					     ".blob.storage.azure.net" };
	struct uri u;
	bool is_blob = false, has_signature;

	if (!d->all->job->identity || uri_parse(d->uri, &u, NULL) < 0)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(hosts); i++)
		is_blob = is_blob || (str_ends(u.host, hosts[i]) && strstr(u.host, ".blob."));
	has_signature = u.query && (str_starts(u.query, "sig=") || strstr(u.query, "&sig="));
	is_blob = is_blob && u.https && !has_signature;
	uri_done(&u);
	return is_blob;
}

static void attempt(struct download *d)
{
	const struct job *job = d->all->job;
	const struct identity identity = { job->client_id, job->object_id, job->resource_id };
	struct error e = ERROR_INIT;

	d->begun = true;
	d->with_token = wants_token(d);
	if (!d->with_token)
		ask(d, NULL);
	else if (token_get(d->all->tokens, IDENTITY_ENDPOINT, STORAGE_RESOURCE, &identity, false,
			   usec_add(loop_now_boot(d->all->loop), 3 * USEC_PER_MINUTE), on_token, d, &d->token_call, &e) < 0)
		fail(d, CODE_IMDS_ERROR, "%s", e.msg);
}

static void on_timer(void *userdata)
{
	struct download *d = userdata;

	if (!d->begun)
		start_more(d->all);
	else if (d->call)
		try_again_or_fail(d, 0, 0, CODE_TIMEOUT, "nothing came for 60 s");
	else
		attempt(d);
}

static void start_more(struct all *a)
{
	int64_t running = 0;
	size_t done = 0;

	for (size_t i = 0; i < a->n; i++) {
		running += a->list[i].begun && !a->list[i].done;
		done += a->list[i].done;
	}
	for (size_t i = 0; i < a->n && running < a->job->parallel_downloads; i++)
		if (!a->list[i].begun) {
			attempt(&a->list[i]);
			running++;
		}
	if (done == a->n)
		loop_exit(a->loop, DOWNLOADS_DONE);
}

/* ---- the whole ---- */

/* Directories of the files belong to the user, like the one they are in. */
static int make_parents(const struct all *a, const char *work, char *path, struct error *err)
{
	for (char *p = strchr(path + strlen(work) + 1, '/'); p; p = strchr(p + 1, '/')) {
		int r = 0;

		*p = '\0';
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			r = error_errno(err, -errno, "%s", path);
		else if (a->user->switched && lchown(path, a->user->uid, a->user->gid) < 0)
			r = error_errno(err, -errno, "%s", path);
		*p = '/';
		if (r < 0)
			return r;
	}
	return 0;
}

static int prepare(struct all *a, const struct job_secrets *secrets, const char *work, struct error *err)
{
	const struct job_download *from = a->job->downloads.items;

	for (size_t i = 0; i < a->n; i++) {
		struct download *d = &a->list[i];

		*d = (struct download){ .all = a, .d = &from[i], .fd = -1, .uri = job_secret(secrets, from[i].uri) };
		d->path = str_format("%s/%s", work, from[i].name);
		d->made = str_format("%s/" FS_TEMPORARY_PREFIX "%zu", work, i);
		if (!d->path || !d->made || loop_timer_new(a->loop, "download", on_timer, d, &d->timer) < 0)
			return error_oom(err);
		if (!d->uri)
			return error_set(err, ERROR_SYSTEM, -ENOENT, "the URI of file %s is missing", from[i].name);
		if (make_parents(a, work, d->path, err) < 0)
			return -EIO;
	}
	return 0;
}

static int open_client(struct all *a, const struct job_secrets *secrets, struct error *err)
{
	const struct job *job = a->job;
	char *const *hosts = job->no_proxy.items;
	_cleanup_free_ const char **no_proxy = calloc(job->no_proxy.n + 1, sizeof(*no_proxy));
	const struct http_options options = { .proxy = job_secret(secrets, JOB_CONTENT_PROXY),
					      .no_proxy = no_proxy,
					      .ca_file = str_empty(job->ca_file) ? NULL : job->ca_file,
					      .connect_to = getenv("EVENKEEL_CONNECT_TO") };
	int r;

	if (!no_proxy)
		return error_oom(err);
	for (size_t i = 0; i < job->no_proxy.n; i++)
		no_proxy[i] = hosts[i];
	r = http_new(&a->http, a->loop, &options, err);
	return r < 0 ? r : tokens_new(&a->tokens, a->loop, a->http, err);
}

int runner_download(struct loop *l, const struct job *job, const struct job_secrets *secrets, const struct runner_user *user,
		    const char *work, int *ret_code, struct error *err)
{
	struct all a = { .loop = l, .job = job, .user = user, .n = job->downloads.n, .code = CODE_INTERNAL, .err = err };
	int r;

	a.list = calloc(a.n, sizeof(*a.list));
	r = a.list ? prepare(&a, secrets, work, err) : error_oom(err);
	if (r >= 0)
		r = open_client(&a, secrets, err);
	if (r >= 0) {
		loop_timer_after(a.list[0].timer, 0); /* inside the loop, so that a failure ends it */
		r = loop_run(l);
	}
	for (size_t i = 0; a.list && i < a.n; i++) {
		http_call_free(a.list[i].call);
		token_call_free(a.list[i].token_call);
		loop_timer_free(a.list[i].timer);
		drop_file(&a.list[i]);
		free(a.list[i].path);
		free(a.list[i].made);
	}
	free(a.list);
	tokens_free(a.tokens);
	http_free(a.http);
	if (r >= 0)
		*ret_code = a.code;
	else
		*ret_code = CODE_INTERNAL;
	return r < 0 ? DOWNLOADS_FAILED : r;
}
