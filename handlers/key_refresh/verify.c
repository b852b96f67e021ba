/* Asks an endpoint which certificate it serves, until it is the one that is installed or the time is up. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/codec/base64.h"
#include "agent/codec/digest.h"
#include "agent/io/http.h"
#include "agent/io/loop.h"
#include "handlers/key_refresh/activate.h"
#include "handlers/key_refresh/item.h"

#define FIRST_WAIT  (100 * USEC_PER_MSEC)
#define MOST_WAIT   (2 * USEC_PER_SEC)
#define PROBE_MOST  (10 * USEC_PER_SEC)
#define DER_MAX	    (64UL * 1024)

static void look(void *userdata);

void activate_verify_stop(struct item *i)
{
	http_call_free(TAKE_PTR(i->probe));
	loop_timer_free(TAKE_PTR(i->probe_timer));
}

/* Of the DER inside of PEM. */
static int thumbprint_of(const char *pem, char ret[static SHA1_HEX_MAX])
{
	static const char begin[] = "-----BEGIN CERTIFICATE-----", end[] = "-----END CERTIFICATE-----";
	const char *from = strstr(pem, begin), *to = from ? strstr(from, end) : NULL;
	_cleanup_buf_ struct buf der = BUF_INIT(DER_MAX);
	int r;

	if (!to)
		return -EBADMSG;
	from += sizeof(begin) - 1;
	r = base64_decode(from, (size_t)(to - from), true, &der, NULL);
	return r < 0 ? r : sha1_hex(der.data, der.len, ret);
}

static void ended(struct item *i, enum activation_end end)
{
	const struct activate_settings *a = key_activate(&i->plan.wish);
	_cleanup_free_ char *why = NULL;

	if (end == ACTIVATION_FAILED)
		why = str_format("%s does not serve it: %s", a->verify.endpoint ? a->verify.endpoint : "the endpoint", i->seen);
	activate_verify_stop(i);
	activate_ended(i, end, why);
}

static void again(struct item *i)
{
	usec_t now = loop_now_boot(i->h->host->loop);

	if (now >= i->probe_until) {
		ended(i, ACTIVATION_FAILED);
		return;
	}
	loop_timer_at(i->probe_timer, usec_min(usec_add(now, i->probe_wait), i->probe_until));
	i->probe_wait = usec_min(2 * i->probe_wait, MOST_WAIT);
}

static void on_probed(const struct http_response *resp, void *userdata)
{
	struct item *i = userdata;
	const char *wanted = i->plan.record.activation.candidate.thumbprint;
	char served[SHA1_HEX_MAX];

	if (resp->certificate && thumbprint_of(resp->certificate, served) >= 0)
		(void)snprintf(i->seen, sizeof(i->seen), "it serves the one with thumbprint %s", served);
	else
		(void)snprintf(i->seen, sizeof(i->seen), "%s", resp->detail ? resp->detail : "it shows no certificate");
	http_call_free(TAKE_PTR(i->probe));
	if (resp->certificate && thumbprint_of(resp->certificate, served) >= 0 && str_equal_nocase(served, wanted))
		ended(i, ACTIVATION_OK);
	else
		again(i);
}

static void look(void *userdata)
{
	struct item *i = userdata;
	const struct activate_settings *a = key_activate(&i->plan.wish);
	const char *endpoint = a->verify.endpoint, *port = endpoint ? strrchr(endpoint, ':') : NULL;
	usec_t left = usec_sub(i->probe_until, loop_now_boot(i->h->host->loop));
	struct http_request req = { .timeout_usec = usec_max(usec_min(left, PROBE_MOST), USEC_PER_SEC), .max_body = 1, .probe = endpoint };
	_cleanup_free_ char *url = NULL;
	struct error e = ERROR_INIT;

	if (i->abandon || !port) {
		ended(i, ACTIVATION_OK);
		return;
	}
	url = a->verify.server_name ? str_format("https://%s%s/", a->verify.server_name, port) : str_format("https://%s/", endpoint);
	req.url = url;
	if (url && http_submit(i->h->host->http, &req, on_probed, i, &i->probe, &e) >= 0)
		return;
	(void)snprintf(i->seen, sizeof(i->seen), "%.150s", url ? e.msg : "out of memory");
	again(i);
}

void activate_verify(struct item *i)
{
	const struct activate_settings *a = key_activate(&i->plan.wish);
	struct loop *loop = i->h->host->loop;

	i->seen[0] = '\0';
	i->probe_until = usec_add(loop_now_boot(loop), usec_from_seconds((uint64_t)a->verify.timeout_seconds));
	i->probe_wait = FIRST_WAIT;
	if (loop_timer_new(loop, "verify", look, i, &i->probe_timer) < 0) {
		(void)snprintf(i->seen, sizeof(i->seen), "out of memory");
		ended(i, ACTIVATION_FAILED);
		return;
	}
	loop_timer_after(i->probe_timer, 0);
}
