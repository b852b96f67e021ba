/* A few peers at a time; the first no is the answer. */
#include "handlers/drain/peers.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/base/time.h"
#include "agent/codec/uri.h"
#include "agent/io/http.h"

#define AT_ONCE	    8
#define ANSWER_USEC (3 * USEC_PER_SEC)
#define WHY_MAX	    400

struct slot {
	struct peers *peers;
	struct http_call *call;
	size_t name;
};

struct peers {
	struct http *http;
	peers_done_fn done;
	void *userdata;
	char *url, **names; /* NULL: nothing is asked */
	size_t n, next, yes;
	struct slot slots[AT_ONCE];
};

void peers_stop(struct peers *p)
{
	for (size_t i = 0; i < AT_ONCE; i++)
		http_call_free(TAKE_PTR(p->slots[i].call));
	strv_free(TAKE_PTR(p->names));
	free(TAKE_PTR(p->url));
}

static void answer(struct peers *p, bool drained, const char *why)
{
	peers_stop(p);
	p->done(p->userdata, drained, why);
}

static bool says_drained(const struct http_response *resp)
{
	static const char word[] = "drained";
	size_t n = sizeof(word) - 1;

	return resp->len >= n && strncmp(resp->body, word, n) == 0 && !isalnum((unsigned char)resp->body[n]);
}

static int ask_next(struct slot *s, struct error *err);

static void on_answer(const struct http_response *resp, void *userdata)
{
	struct slot *s = userdata;
	struct peers *p = s->peers;
	struct error e = ERROR_INIT;
	char why[WHY_MAX];

	if (resp->result < 0)
		(void)snprintf(why, sizeof(why), "%s does not answer: %s", p->names[s->name], resp->detail);
	else if (resp->status != 200)
		(void)snprintf(why, sizeof(why), "%s answers %ld", p->names[s->name], resp->status);
	else if (!says_drained(resp))
		(void)snprintf(why, sizeof(why), "%s answers 200, but not \"drained\"", p->names[s->name]);
	else
		why[0] = '\0';
	http_call_free(TAKE_PTR(s->call));
	if (why[0])
		answer(p, false, why);
	else if (++p->yes == p->n)
		answer(p, true, "");
	else if (p->next < p->n && ask_next(s, &e) < 0)
		answer(p, false, e.msg);
}

static int peer_url(const char *template, const char *name, struct buf *out)
{
	_cleanup_buf_ struct buf encoded = BUF_INIT(LIMIT_URI);
	int r = uri_encode(name, strlen(name), &encoded);

	return r < 0 ? r : buf_fill(out, template, "{name}", buf_str(&encoded));
}

static int ask_next(struct slot *s, struct error *err)
{
	struct peers *p = s->peers;
	_cleanup_buf_ struct buf url = BUF_INIT(LIMIT_URI);
	int r;

	s->name = p->next++;
	r = peer_url(p->url, p->names[s->name], &url);
	if (r < 0)
		return error_errno(err, r, "cannot make the peerUrl of %s", p->names[s->name]);
	return http_submit(
		p->http,
		&(struct http_request){ .url = url.data, .timeout_usec = ANSWER_USEC, .max_body = LIMIT_ERROR_BODY },
		on_answer, s, &s->call, err);
}

int peers_ask(struct peers *p, const char *url, const char *const *names, struct error *err)
{
	int r = 0;

	peers_stop(p);
	p->n = p->next = p->yes = 0;
	p->url = strdup(url);
	p->names = strv_copy(names);
	if (!p->url || !p->names)
		return error_oom(err);
	p->n = strv_length(p->names);
	if (p->n == 0)
		return error_set(err, ERROR_PLATFORM, -EINVAL, "the event names nobody else");
	for (size_t i = 0; i < AT_ONCE && p->next < p->n && r >= 0; i++)
		r = ask_next(&p->slots[i], err);
	if (r < 0)
		peers_stop(p);
	return r;
}

int peers_new(struct http *http, peers_done_fn done, void *userdata, struct peers **ret)
{
	struct peers *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->http = http;
	p->done = done;
	p->userdata = userdata;
	for (size_t i = 0; i < AT_ONCE; i++)
		p->slots[i].peers = p;
	*ret = p;
	return 0;
}

void peers_free(struct peers *p)
{
	if (!p)
		return;
	peers_stop(p);
	free(p);
}
