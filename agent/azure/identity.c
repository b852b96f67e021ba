/* Tokens of managed identities: one entry per question asked, with its cache, its fetch and who waits for it. */
#include "agent/azure/identity.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agent/azure/service.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/random.h"
#include "agent/base/secret.h"
#include "agent/base/str.h"
#include "agent/codec/json.h"
#include "agent/codec/uri.h"
#include "agent/core/retry.h"
#include "agent/core/settings_common.h"
#include "agent/io/http.h"
#include "agent/io/loop.h"

#define API_VERSION     "2018-02-01"
#define ARC_API_VERSION "2020-06-01"
#define ARC_DIRECTORY   "/var/opt/azcmagent/tokens/"
#define TIMEOUT         (20 * USEC_PER_SEC)
#define CONNECT_TIMEOUT (5 * USEC_PER_SEC)
#define FRESH_FOR       (10 * USEC_PER_SEC) /* many that got a 401 with one token ask for one new one */
#define RENEW_AGAIN     USEC_PER_MINUTE     /* after a renewal that failed while the token is still good */
#define ABSENT          INT64_MIN

struct token_call {
	struct token_call *next, **at; /* in a list; at NULL: in none, and entry NULL */
	struct entry *entry;
	bool cached; /* to be given what there is */
	usec_t deadline;
	token_fn done;
	void *userdata;
};

struct entry {
	struct entry *next;
	struct tokens *tokens;
	char *url;   /* the question; the key of the cache */
	char *asked; /* the identity as it was asked for */
	bool loopback;

	char *token; /* NULL: none yet */
	char *who;
	bool bypassed; /* got past the service's own cache */
	usec_t obtained, renew, expires, used;

	struct token_call *calls;
	struct loop_timer *timer;
	struct http_call *http; /* a request is on its way */
	bool bypass, challenged;
	bool delivering;
	struct retry_state retry;
	usec_t retry_at;
	struct error why; /* the last failure */
};

struct tokens {
	struct loop *loop;
	struct http *http;
	char *root;
	struct entry *entries;
	unsigned n_entries;
};

/* ---- lists of calls ---- */

static void link_call(struct token_call **list, struct token_call *c)
{
	while (*list)
		list = &(*list)->next;
	c->next = NULL;
	c->at = list;
	*list = c;
}

static void unlink_call(struct token_call *c)
{
	*c->at = c->next;
	if (c->next)
		c->next->at = c->at;
	c->next = NULL;
	c->at = NULL;
}

enum which { ALL_CALLS, CACHED_CALLS, DUE_CALLS };

static bool is_chosen(const struct token_call *c, enum which which, usec_t before)
{
	return which == ALL_CALLS || (which == CACHED_CALLS ? c->cached : c->deadline <= before);
}

/* A callback may ask again or free any call, so those that are told now stand in a list of their own. */
static void deliver(struct entry *e, enum which which, usec_t before, const struct error *failure)
{
	struct error err = failure ? *failure : ERROR_INIT;
	struct token_call *chosen = NULL;

	for (struct token_call *c = e->calls, *next; c; c = next) {
		next = c->next;
		if (!is_chosen(c, which, before))
			continue;
		unlink_call(c);
		link_call(&chosen, c);
	}
	e->delivering = true;
	while (chosen) {
		struct token_call *c = chosen;

		unlink_call(c);
		c->entry = NULL;
		if (failure)
			c->done(NULL, e->asked, &err, c->userdata);
		else
			c->done(e->token, e->who, NULL, c->userdata);
	}
	e->delivering = false;
}

/* ---- what the service answers ---- */

struct answer {
	char *token, *client_id, *type;
	int64_t expires_in, expires_on, refresh_in;
};

/* It becomes a header. */
static int check_token(const char *text, struct error *err)
{
	for (const char *p = text; *p; p++)
		if (*p <= ' ' || *p > '~')
			return error_set(err, ERROR_PLATFORM, -EINVAL, "expected a token of visible characters");
	return 0;
}

static const struct jd_type token_type = {
	.kind = JD_TEXT,
	.min = 1,
	.max = (int64_t)LIMIT_IMDS_TOKEN,
	.check = check_token,
	.sensitive = true,
};
static const struct jd_type text = { .kind = JD_TEXT, .max = 256 };
static const struct jd_type seconds = { .kind = JD_INTEGER, .lenient = true };

/* clang-format off */
static const struct jd_field answer_fields[] = {
	{ "access_token", &token_type, offsetof(struct answer, token), JD_REQUIRED },
	{ "token_type",   &text,       offsetof(struct answer, type) },
	{ "client_id",    &text,       offsetof(struct answer, client_id) },
	{ "expires_in",   &seconds,    offsetof(struct answer, expires_in), .default_integer = ABSENT },
	{ "expires_on",   &seconds,    offsetof(struct answer, expires_on), .default_integer = ABSENT },
	{ "refresh_in",   &seconds,    offsetof(struct answer, refresh_in), .default_integer = ABSENT },
	{ NULL },
};
/* clang-format on */
static const struct jd_type answer_type = { .kind = JD_OBJECT, .fields = answer_fields, .size = sizeof(struct answer) };

static void answer_done(struct answer *a)
{
	jd_free(&answer_type, a);
}

static usec_t span_of(int64_t s)
{
	return s > 0 ? usec_from_seconds((uint64_t)s) : 0;
}

static int take_answer(struct entry *e, const struct http_response *resp, struct error *err)
{
	_cleanup_(answer_done) struct answer a = { .token = NULL };
	usec_t now = loop_now_boot(e->tokens->loop), life;
	struct error why = ERROR_INIT;
	char *who;
	int r;

	r = jd_decode_document(resp->body, resp->len, "answer", LIMIT_IMDS_TOKEN, &answer_type, &a, &why);
	if (r < 0)
		return error_set(err, why.cls, r, "managed identity (%s): %s gave no usable %.200s", e->asked,
				 resp->host, why.msg);
	if (a.type && !str_equal_nocase(a.type, "Bearer"))
		return error_set(err, ERROR_PLATFORM, -EPROTO,
				 "managed identity (%s): %s gave a token of type %.40s, not Bearer", e->asked,
				 resp->host, a.type);
	life = a.expires_in != ABSENT   ? span_of(a.expires_in)
	       : a.expires_on != ABSENT ? usec_sub(span_of(a.expires_on), loop_now_wall(e->tokens->loop))
					: 0;
	if (!life)
		return error_set(err, ERROR_TRANSIENT, -EKEYEXPIRED,
				 "managed identity (%s): %s gave a token that has expired", e->asked, resp->host);
	who = str_empty(a.client_id) ? strdup(e->asked) : str_format("client id %s", a.client_id);
	if (!who)
		return error_oom(err);
	erase_and_free(e->token);
	free(e->who);
	e->token = TAKE_PTR(a.token);
	e->who = who;
	e->bypassed = e->bypass;
	e->obtained = now;
	e->renew = usec_add(now, a.refresh_in > 0 ? usec_min(span_of(a.refresh_in), life / 2) : life / 2);
	e->expires = usec_add(now, life - life / 10);
	return 0;
}

/* The description is for people, and only explained here: nothing is decided by it. */
static const char *advice_on_status(int status, const struct service_words *words)
{
	if (strstr(words->message, "Multiple user assigned"))
		return "the VM has several user-assigned identities: name one in the settings (identity.clientId)";
	if (strstr(words->message, "Identity not found"))
		return "the VM has no such identity: assign it to the VM, which takes minutes to count, or correct "
		       "identity in"
		       " the settings";
	if (str_equal(words->code, "invalid_resource"))
		return "the VM's tenant does not know this resource: the vault or storage belongs to another cloud";
	switch (status) {
	case 400:
		return "the identity service refuses the request";
	case 401:
	case 403:
		return "the identity service refuses this program";
	case 404:
		return "there is no identity service";
	case 410:
		return "the service is being updated, which takes 70 s at most";
	case 429:
		return "too many requests for tokens from this VM";
	default:
		return status >= 500 ? "trouble on the platform's side, which passes"
				     : "nothing of the kind is documented";
	}
}

static void explain_status(const struct entry *e, const struct http_response *resp, struct error *err)
{
	int status = (int)resp->status;
	struct service_words words;

	service_words_parse(resp->body, resp->len, &words);
	(void)error_set(err, service_status_class(status), service_status_errno(status),
			"managed identity (%s): %s answered %d%s%s: %s%s%s", e->asked, resp->host, status,
			words.code[0] ? " " : "", words.code, advice_on_status(status, &words),
			words.message[0] ? "; it says: " : "", words.message);
}

/* ---- Arc: whoever can read a file of root's may have a token ---- */

static int key_path(const struct tokens *t, const char *challenge, char **ret, struct error *err)
{
	_cleanup_free_ char *path = NULL;
	const char *name;

	if (!challenge || strncasecmp(challenge, "Basic realm=", 12) != 0)
		return error_set(err, ERROR_PLATFORM, -EACCES, "the challenge names no key file");
	challenge += 12;
	challenge += *challenge == '"';
	path = strndup(challenge, strcspn(challenge, "\""));
	if (!path)
		return error_oom(err);
	name = path + strlen(ARC_DIRECTORY);
	if (!str_starts(path, ARC_DIRECTORY) || strchr(name, '/') || *name == '.' || !str_ends(name, ".key"))
		return error_set(err, ERROR_PLATFORM, -EACCES,
				 "the challenge names a file that is no key below " ARC_DIRECTORY ": \"%.100s\"", path);
	*ret = str_format("%s%s", t->root ? t->root : "", path);
	return *ret ? 0 : error_oom(err);
}

static int read_key(const struct tokens *t, const char *challenge, struct buf *header, struct error *err)
{
	_cleanup_buf_ struct buf key = BUF_SECRET_INIT(LIMIT_ARC_KEY);
	_cleanup_free_ char *path = NULL;
	size_t len;
	int r;

	r = key_path(t, challenge, &path, err);
	if (r < 0)
		return r;
	r = fs_read_nofollow(path, LIMIT_ARC_KEY, &key, err);
	if (r < 0)
		return r;
	len = strcspn(buf_str(&key), "\r\n");
	for (size_t i = 0; i < len; i++)
		if (key.data[i] <= ' ' || key.data[i] > '~')
			return error_set(err, ERROR_PLATFORM, -EACCES, "%s holds no key", path);
	if (!len || key.len - len > 2)
		return error_set(err, ERROR_PLATFORM, -EACCES, "%s holds no key", path);
	(void)buf_puts(header, "Authorization: Basic ");
	return buf_append(header, key.data, len) < 0 ? error_oom(err) : 0;
}

/* ---- the fetch ---- */

static void step(struct entry *e);
static void on_reply(const struct http_response *resp, void *userdata);

static usec_t last_deadline(const struct entry *e)
{
	usec_t last = 0;

	for (const struct token_call *c = e->calls; c; c = c->next)
		last = usec_max(last, c->deadline);
	return last;
}

static int send_request(struct entry *e, const char *authorization, struct error *err)
{
	usec_t left = usec_sub(last_deadline(e), loop_now_boot(e->tokens->loop));
	const char *headers[] = { "Metadata: true", authorization, NULL };
	_cleanup_free_ char *url = NULL;
	struct http_request req = {
		.headers = headers,
		.timeout_usec = usec_max(usec_min(TIMEOUT, left), USEC_PER_MSEC),
		.max_body = LIMIT_IMDS_TOKEN,
		.secret = true,
	};

	/* Arc has no such parameter, and no such cache. */
	url = str_format("%s%s", e->url, e->bypass && !e->loopback ? "&bypass_cache=true" : "");
	if (!url)
		return error_oom(err);
	req.url = url;
	req.connect_timeout_usec = usec_min(CONNECT_TIMEOUT, req.timeout_usec);
	return http_submit(e->tokens->http, &req, on_reply, e, &e->http, err);
}

static void end_fetch(struct entry *e)
{
	http_call_free(TAKE_PTR(e->http));
	retry_succeeded(&e->retry);
	e->retry_at = 0;
	e->bypass = false;
	e->challenged = false;
	e->why = ERROR_INIT;
}

/* One exit for whatever went wrong: the token we have, another try, or the news. */
static void failed(struct entry *e, int status, usec_t retry_after)
{
	usec_t now = loop_now_boot(e->tokens->loop), wait;
	struct error why = e->why;

	if (e->token && !e->bypass && now < e->expires) {
		e->renew = usec_add(now, RENEW_AGAIN);
		end_fetch(e);
		deliver(e, ALL_CALLS, 0, NULL);
	} else if (retry_failed(&retry_identity, &e->retry, status, retry_after, random_jitter(), now, &wait) ==
		   RETRY_NO) {
		end_fetch(e);
		deliver(e, ALL_CALLS, 0, &why);
	} else {
		e->retry_at = usec_add(now, wait);
		deliver(e, DUE_CALLS, e->retry_at, &why);
	}
	step(e);
}

static bool is_challenge(const struct entry *e, const struct http_response *resp)
{
	return resp->status == 401 && e->loopback && !e->challenged;
}

static int answer_challenge(struct entry *e, const struct http_response *resp)
{
	_cleanup_buf_ struct buf header = BUF_SECRET_INIT(LIMIT_ARC_KEY + 64);
	struct error why = ERROR_INIT;
	int r;

	e->challenged = true;
	r = read_key(e->tokens, http_response_header(resp, "WWW-Authenticate"), &header, &why);
	if (r == 0)
		r = send_request(e, header.data, &why);
	if (r == 0)
		return 0;
	return error_set(
		&e->why, why.cls, r,
		"managed identity (%s): cannot answer Azure Arc's challenge: %.250s; the service must run as root or in"
		" the group himds",
		e->asked, why.msg);
}

static void on_reply(const struct http_response *resp, void *userdata)
{
	struct entry *e = userdata;

	http_call_free(TAKE_PTR(e->http)); /* lasts until we return */
	if (resp->result < 0) {
		(void)error_set(&e->why, resp->result == -EACCES ? ERROR_SYSTEM : ERROR_TRANSIENT, resp->result,
				"managed identity (%s): %s", e->asked, resp->detail);
		failed(e, 0, 0);
		return;
	}
	if (is_challenge(e, resp)) {
		if (answer_challenge(e, resp) == 0)
			return;
	} else if (resp->status != 200) {
		explain_status(e, resp, &e->why);
	} else if (take_answer(e, resp, &e->why) == 0) {
		end_fetch(e);
		deliver(e, ALL_CALLS, 0, NULL);
		step(e);
		return;
	}
	failed(e, (int)resp->status, service_retry_after(resp));
}

static void begin_request(struct entry *e)
{
	e->challenged = false;
	e->retry_at = 0;
	if (send_request(e, NULL, &e->why) == 0)
		return;
	(void)error_wrap(&e->why, e->why.code, "managed identity (%s)", e->asked);
	failed(e, 0, 0);
}

static void deadline_passed(struct entry *e, usec_t now)
{
	struct error why = e->why;

	if (why.cls == ERROR_NONE)
		(void)error_set(&why, ERROR_TRANSIENT, -ETIMEDOUT, "managed identity (%s): no answer in time",
				e->asked);
	deliver(e, DUE_CALLS, now, &why);
}

static void arm(struct entry *e)
{
	usec_t due = e->http ? USEC_INFINITY : e->retry_at;

	for (const struct token_call *c = e->calls; c; c = c->next)
		due = usec_min(due, c->cached ? 0 : c->deadline);
	loop_timer_at(e->timer, e->calls ? due : USEC_INFINITY);
}

/* Brings an entry to where it has to wait. Its timer runs it; so does every end of a request. */
static void step(struct entry *e)
{
	usec_t now = loop_now_boot(e->tokens->loop);

	if (e->delivering)
		return; /* the delivery is inside another step */
	deliver(e, CACHED_CALLS, 0, NULL);
	deadline_passed(e, now);
	if (!e->calls)
		end_fetch(e);
	else if (!e->http && e->retry_at <= now)
		begin_request(e);
	arm(e);
}

static void on_timer(void *userdata)
{
	step(userdata);
}

/* ---- entries ---- */

static void entry_free(struct entry *e)
{
	for (struct token_call *c = e->calls, *next; c; c = next) {
		next = c->next;
		unlink_call(c);
		c->entry = NULL;
	}
	http_call_free(e->http);
	loop_timer_free(e->timer);
	erase_and_free(e->token);
	free(e->who);
	free(e->asked);
	free(e->url);
	free(e);
}
DEFINE_CLEANUP(struct entry *, entry_free)

static bool make_room(struct tokens *t)
{
	struct entry **oldest = NULL, *e;

	if (t->n_entries < LIMIT_TOKENS)
		return true;
	for (struct entry **at = &t->entries; *at; at = &(*at)->next)
		if (!(*at)->calls && !(*at)->delivering && (!oldest || (*at)->used < (*oldest)->used))
			oldest = at;
	if (!oldest)
		return false;
	e = *oldest;
	*oldest = e->next;
	t->n_entries--;
	entry_free(e);
	return true;
}

static char *asked_for(const struct identity *i)
{
	if (i && !str_empty(i->client_id))
		return str_format("client id %s", i->client_id);
	if (i && !str_empty(i->object_id))
		return str_format("object id %s", i->object_id);
	if (i && !str_empty(i->resource_id))
		return str_format("resource id %s", i->resource_id);
	return strdup("system-assigned");
}

static int put_selector(const struct identity *i, struct buf *url)
{
	const char *const names[] = { "client_id", "object_id", "msi_res_id" };
	const char *const values[] = { i ? i->client_id : NULL, i ? i->object_id : NULL, i ? i->resource_id : NULL };

	for (size_t n = 0; n < ARRAY_SIZE(names); n++) {
		if (str_empty(values[n]))
			continue;
		(void)buf_printf(url, "&%s=", names[n]);
		return uri_encode(values[n], strlen(values[n]), url);
	}
	return 0;
}

static bool is_loopback(const struct uri *u)
{
	return str_equal(u->host, "localhost") || (u->ipv6 ? str_equal(u->host, "::1") : str_starts(u->host, "127."));
}

static int make_url(const char *endpoint, const char *resource, const struct identity *i, struct buf *url,
		    bool *ret_loopback, struct error *err)
{
	_cleanup_(uri_done) struct uri u = { .host = NULL };
	size_t len = strlen(endpoint);
	int r;

	r = uri_parse(endpoint, &u, err);
	if (r < 0)
		return error_wrap(err, r, "identity endpoint");
	*ret_loopback = is_loopback(&u);
	/* A key file's content may go there. */
	if (u.query || (!*ret_loopback && (u.ipv6 || !str_starts(u.host, "169.254."))))
		return error_set(err, ERROR_USER, -EINVAL,
				 "identity endpoint: expected a link-local or loopback URL without query, got host %s",
				 u.host);
	while (len && endpoint[len - 1] == '/')
		len--;
	(void)buf_append(url, endpoint, len);
	if (!str_ends(buf_str(url), "/oauth2/token"))
		(void)buf_puts(url, "/oauth2/token");
	(void)buf_printf(url, "?api-version=%s&resource=", *ret_loopback ? ARC_API_VERSION : API_VERSION);
	r = uri_encode(resource, strlen(resource), url);
	if (r == 0)
		r = put_selector(i, url);
	if (r == 0)
		r = buf_ok(url);
	return r < 0 ? error_errno(err, r, "managed identity: cannot write the request") : 0;
}

static int entry_new(struct tokens *t, char *url, bool loopback, const struct identity *i, struct entry **ret,
		     struct error *err)
{
	_cleanup_(entry_freep) struct entry *e = calloc(1, sizeof(*e));
	int r;

	if (!e) {
		free(url);
		return error_oom(err);
	}
	*e = (struct entry){ .tokens = t, .url = url, .loopback = loopback, .asked = asked_for(i) };
	if (!e->asked)
		return error_oom(err);
	r = loop_timer_new(t->loop, "tokens", on_timer, e, &e->timer);
	if (r < 0)
		return error_errno(err, r, "managed identity: cannot make a timer");
	e->next = t->entries;
	t->entries = e;
	t->n_entries++;
	*ret = TAKE_PTR(e);
	return 0;
}

static int find_entry(struct tokens *t, const char *endpoint, const char *resource, const struct identity *i,
		      struct entry **ret, struct error *err)
{
	_cleanup_buf_ struct buf url = BUF_INIT(LIMIT_URI);
	bool loopback = false;
	int r;

	r = make_url(endpoint, resource, i, &url, &loopback, err);
	if (r < 0)
		return r;
	for (struct entry *e = t->entries; e; e = e->next)
		if (str_equal(e->url, url.data)) {
			*ret = e;
			return 0;
		}
	if (!make_room(t))
		return error_set(err, ERROR_TRANSIENT, -EBUSY,
				 "managed identity: %d tokens are being asked for already", LIMIT_TOKENS);
	return entry_new(t, buf_take(&url), loopback, i, ret, err);
}

/* ---- the interface ---- */

static bool may_use_cache(const struct entry *e, bool fresh, usec_t now)
{
	if (!e->token || now >= e->expires)
		return false;
	return fresh ? e->bypassed && usec_sub(now, e->obtained) < FRESH_FOR : now < e->renew;
}

int token_get(struct tokens *t, const char *endpoint, const char *resource, const struct identity *identity, bool fresh,
	      usec_t deadline_boot, token_fn done, void *userdata, struct token_call **ret, struct error *err)
{
	_cleanup_(token_call_freep) struct token_call *c = calloc(1, sizeof(*c));
	struct entry *e = NULL;
	usec_t now = loop_now_boot(t->loop);
	int r;

	if (!c)
		return error_oom(err);
	r = find_entry(t, endpoint, resource, identity, &e, err);
	if (r < 0)
		return r;
	*c = (struct token_call){ .entry = e, .deadline = deadline_boot, .done = done, .userdata = userdata };
	c->cached = may_use_cache(e, fresh, now);
	/* What is on its way may come from the service's cache: asked again, for all who wait. */
	if (!c->cached && fresh && !e->bypass) {
		http_call_free(TAKE_PTR(e->http));
		e->retry_at = 0;
		e->bypass = true;
	}
	e->used = now;
	link_call(&e->calls, c);
	loop_timer_at(e->timer, 0);
	*ret = TAKE_PTR(c);
	return 0;
}

void token_call_free(struct token_call *c)
{
	if (!c)
		return;
	if (c->at)
		unlink_call(c);
	/* A fetch that nobody waits for any more is given up, not from inside here. */
	if (c->entry)
		loop_timer_at(c->entry->timer, 0);
	free(c);
}

int tokens_new(struct tokens **ret, struct loop *loop, struct http *http, struct error *err)
{
	struct tokens *t = calloc(1, sizeof(*t));

	if (!t)
		return error_oom(err);
	t->loop = loop;
	t->http = http;
	*ret = t;
	return 0;
}

int tokens_set_root(struct tokens *t, const char *root)
{
	return str_set(&t->root, root);
}

void tokens_free(struct tokens *t)
{
	if (!t)
		return;
	for (struct entry *e = t->entries, *next; e; e = next) {
		next = e->next;
		entry_free(e);
	}
	free(t->root);
	free(t);
}
