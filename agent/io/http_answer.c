/* What comes in, while it comes: the answer's lines are kept, its body is kept or handed on, and both have a limit. */
#include <errno.h>
#include <string.h>

#include "agent/base/limits.h"
#include "agent/io/http_internal.h"

/* Ends the transfer: curl then reports a write error, and `failed` says why. */
static size_t refuse(struct http_call *c, int result)
{
	c->failed = result;
	return 0;
}

static bool is_success(struct http_call *c)
{
	long status = 0;

	(void)curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
	return status >= 200 && status < 300;
}

/* Each answer is told of once: what redirects bring along is not shown to us. */
static int tell_head(struct http_call *c)
{
	http_head_fn head = c->head;
	struct http_response resp = { .body = "", .host = c->host, .call = c, .connected = true };

	c->head = NULL;
	if (!head)
		return 0;
	(void)curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &resp.status);
	return head(&resp, c->userdata);
}

size_t http_on_body(char *data, size_t size, size_t nmemb, void *userdata)
{
	struct http_call *c = userdata;
	size_t n = size * nmemb;
	int r;

	if (!c->sink) {
		r = buf_append(&c->body, data, n);
		return r < 0 ? refuse(c, r) : n;
	}
	if (!is_success(c)) {
		size_t room = c->body.max - c->body.len;

		r = buf_append(&c->body, data, n < room ? n : room);
		return r < 0 ? refuse(c, r) : n;
	}
	r = tell_head(c);
	if (r < 0)
		return refuse(c, r);
	if (n > c->max_body - c->streamed)
		return refuse(c, -EFBIG);
	c->streamed += n;
	r = c->sink(data, n, c->userdata);
	return r < 0 ? refuse(c, r) : n;
}

/* Every answer begins anew: interim ones (100) and redirects that were followed are of no interest. */
size_t http_on_header(char *data, size_t size, size_t nmemb, void *userdata)
{
	struct http_call *c = userdata;
	size_t n = size * nmemb, len = n;

	c->phase = HTTP_RECEIVING;
	c->header_total += n;
	/* Newer curls refuse it by themselves. */
	if (c->header_total > LIMIT_HTTP_HEADERS_RECEIVED)
		return refuse(c, -EFBIG);
	if (n >= 5 && memcmp(data, "HTTP/", 5) == 0) {
		buf_reset(&c->header);
		return n;
	}
	while (len && strchr("\r\n \t", data[len - 1]))
		len--;
	if (!len || len + 1 > c->header.max - c->header.len)
		return n;
	if (buf_append(&c->header, data, len) < 0 || buf_putc(&c->header, '\0') < 0)
		return refuse(c, -ENOMEM);
	return n;
}

const char *http_response_header(const struct http_response *resp, const char *name)
{
	const struct buf *b = &resp->call->header;
	size_t n = strlen(name);

	for (size_t at = 0; at < b->len; at += strlen(b->data + at) + 1) {
		const char *line = b->data + at;

		if (strncasecmp(line, name, n) != 0 || line[n] != ':')
			continue;
		line += n + 1;
		return line + strspn(line, " \t");
	}
	return NULL;
}
