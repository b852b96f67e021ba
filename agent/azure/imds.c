/* Requests to the Instance Metadata Service, and what its refusals mean. */
#include "agent/azure/imds.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/azure/service.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/base64.h"
#include "agent/codec/json.h"
#include "agent/codec/uri.h"
#include "agent/io/http.h"

#define INSTANCE_URL  IMDS_ENDPOINT "/metadata/instance?api-version=2021-02-01&format=json"
#define USER_DATA_URL IMDS_ENDPOINT "/metadata/instance/compute/userData?api-version=2021-01-01&format=text"
#define BALANCER_URL  IMDS_ENDPOINT "/metadata/loadbalancer?api-version=2020-10-01"
#define EVENTS_URL    IMDS_ENDPOINT "/metadata/scheduledevents?api-version="

/* A second is too short, say those who tried; a proxy in the host restarts in the middle of requests. */
#define TIMEOUT         (20 * USEC_PER_SEC)
#define CONNECT_TIMEOUT (5 * USEC_PER_SEC)
#define LIMIT_POST      (LIMIT_EVENTS * (6UL * LIMIT_EVENT_TEXT + 32) + 64)

struct imds_call {
	struct http_call *http;
	const char *subject;
	imds_instance_fn instance_done; /* the one or the other */
	imds_bytes_fn bytes_done;
	void *userdata;
};

/* ---- what instance data says ---- */

struct instance_document {
	struct imds_instance compute;
};

static const struct jd_type text = { .kind = JD_TEXT, .max = 4096 };

/* clang-format off */
static const struct jd_field compute_fields[] = {
	{ "name",           &text, offsetof(struct imds_instance, name),        .default_text = "" },
	{ "vmId",           &text, offsetof(struct imds_instance, vm_id),       .default_text = "" },
	{ "location",       &text, offsetof(struct imds_instance, location),    .default_text = "" },
	{ "azEnvironment",  &text, offsetof(struct imds_instance, environment), .default_text = "" },
	{ "vmScaleSetName", &text, offsetof(struct imds_instance, scale_set),   .default_text = "" },
	{ "vmSize",         &text, offsetof(struct imds_instance, vm_size),     .default_text = "" },
	{ "resourceId",     &text, offsetof(struct imds_instance, resource_id), .default_text = "" },
	{ NULL },
};
static const struct jd_type compute = { .kind = JD_OBJECT, .fields = compute_fields, .size = sizeof(struct imds_instance) };

static const struct jd_field document_fields[] = {
	{ "compute", &compute, offsetof(struct instance_document, compute) },
	{ NULL },
};
/* clang-format on */
static const struct jd_type document = {
	.kind = JD_OBJECT,
	.fields = document_fields,
	.size = sizeof(struct instance_document),
};

void imds_instance_done(struct imds_instance *i)
{
	jd_free(&compute, i);
}

int imds_instance_parse(const char *json, size_t len, struct imds_instance *ret, struct error *err)
{
	struct instance_document doc = { .compute = { .name = NULL } };
	int r;

	r = jd_decode_document(json, len, "instance metadata", LIMIT_IMDS_INSTANCE, &document, &doc, err);
	if (r < 0)
		return r;
	if (str_empty(doc.compute.name)) {
		jd_free(&document, &doc);
		return error_set(
			err, ERROR_TRANSIENT, -ENODATA,
			"instance metadata: the answer is incomplete, it has no compute.name; the service gives"
			" partial answers while one of its parts is down");
	}
	*ret = doc.compute;
	return 0;
}

/* ---- what the load balancer's metadata says ---- */

struct inbound_rule {
	char *protocol;
	int64_t port; /* -1: not told */
};

struct balancer_document {
	struct jd_list rules;
};

/* The service writes some numbers as texts. */
static const struct jd_type port = { .kind = JD_INTEGER, .min = 0, .max = 65535, .lenient = true };

/* clang-format off */
static const struct jd_field rule_fields[] = {
	{ "protocol",    &text, offsetof(struct inbound_rule, protocol), .default_text = "" },
	{ "backendPort", &port, offsetof(struct inbound_rule, port),     .default_integer = -1 },
	{ NULL },
};
static const struct jd_type rule = { .kind = JD_OBJECT, .fields = rule_fields, .size = sizeof(struct inbound_rule) };
static const struct jd_type rules = { .kind = JD_LIST, .element = &rule };
static const struct jd_field rules_fields[] = {
	{ "inboundRules", &rules, offsetof(struct balancer_document, rules) },
	{ NULL },
};
static const struct jd_type balancer = { .kind = JD_OBJECT, .fields = rules_fields };
static const struct jd_field balancer_fields[] = {
	{ "loadbalancer", &balancer, 0 },
	{ NULL },
};
/* clang-format on */
static const struct jd_type balancer_document = {
	.kind = JD_OBJECT,
	.fields = balancer_fields,
	.size = sizeof(struct balancer_document),
};

static int add_backend(struct imds_backends *b, const struct inbound_rule *r, struct error *err)
{
	if (r->port < 0 || str_equal_nocase(r->protocol, "udp"))
		return 0;
	if (r->port == 0)
		return error_set(err, ERROR_USER, -ENOTSUP,
				 "load balancer metadata: a rule leads to all ports of this VM; name the ports that serve");
	for (size_t i = 0; i < b->n; i++)
		if (b->ports[i] == r->port)
			return 0;
	if (b->n == ARRAY_SIZE(b->ports))
		return error_set(err, ERROR_USER, -E2BIG,
				 "load balancer metadata: rules lead to more than %d ports of this VM; name those that serve",
				 LIMIT_PORTS);
	b->ports[b->n++] = (uint16_t)r->port;
	return 0;
}

int imds_load_balancer_parse(const char *json, size_t len, struct imds_backends *ret, struct error *err)
{
	struct balancer_document doc = { .rules = { .n = 0 } };
	const struct inbound_rule *items;
	struct imds_backends b = { .n = 0 };
	int r;

	r = jd_decode_document(json, len, "load balancer metadata", LIMIT_LOAD_BALANCER, &balancer_document, &doc, err);
	if (r < 0)
		return r;
	items = doc.rules.items;
	for (size_t i = 0; r >= 0 && i < doc.rules.n; i++)
		r = add_backend(&b, &items[i], err);
	jd_free(&balancer_document, &doc);
	if (r >= 0 && b.n == 0)
		r = error_set(err, ERROR_USER, -ENODATA,
			      "load balancer metadata: no rule for TCP leads to this VM; name the ports that serve");
	if (r >= 0)
		*ret = b;
	return r;
}

/* ---- failures ---- */

static const char *advice_on_result(int result)
{
	switch (result) {
	case -EACCES:
		return "; a firewall rule or a prohibit route keeps programs from it (look at: ip route get "
		       "169.254.169.254):"
		       " where systemd locks metadata access, this service must be let through";
	case -ENETUNREACH:
		return "; the VM's primary network interface must be up, with the route to 169.254.169.254 that DHCP "
		       "gives";
	case -ETIMEDOUT:
	case -ECONNREFUSED:
		return "; only the VM's primary network interface reaches it";
	default:
		return "";
	}
}

static const char *advice_on_status(int status)
{
	switch (status) {
	case 400:
		return "the service does not understand the request";
	case 401:
	case 403:
		return "the metadata service of this VM is told to refuse this program (metadata security protocol)";
	case 404:
		return "it has no such data, or not yet";
	case 410:
		return "the service is being updated, which takes 70 s at most";
	case 429:
		return "all programs of this VM together may ask 5 times per second";
	default:
		return status >= 500 ? "trouble on the platform's side, which passes"
				     : "nothing of the kind is documented";
	}
}

static void finish(struct imds_call *c, const struct imds_failure *f)
{
	if (c->instance_done)
		c->instance_done(NULL, f, c->userdata);
	else
		c->bytes_done(NULL, 0, f, c->userdata);
}

static void fail(struct imds_call *c, int status, const struct error *err)
{
	struct imds_failure f = { .status = status, .err = *err };

	finish(c, &f);
}

static void fail_without_answer(struct imds_call *c, const struct http_response *resp)
{
	/* Too large an answer is one that came; cut off within is none. */
	bool large = resp->result == -EFBIG;
	struct error err;

	(void)error_set(&err,
			large                     ? ERROR_PLATFORM
			: resp->result == -EACCES ? ERROR_SYSTEM
						  : ERROR_TRANSIENT,
			resp->result, "%s: %s%s", c->subject, resp->detail, advice_on_result(resp->result));
	fail(c, large ? (int)resp->status : 0, &err);
}

static void fail_with_status(struct imds_call *c, const struct http_response *resp)
{
	struct imds_failure f = { .status = (int)resp->status, .retry_after = service_retry_after(resp) };
	char more[80] = "";
	struct service_words words;

	service_words_parse(resp->body, resp->len, &words);
	if (f.status == 400 && words.newest_version[0]) {
		memcpy(f.newest_version, words.newest_version, sizeof(f.newest_version));
		(void)snprintf(more, sizeof(more), "; the newest api-version here is %s", f.newest_version);
	}
	(void)error_set(&f.err, service_status_class(f.status), service_status_errno(f.status),
			"%s: %s answered %d: %s%s%s%s", c->subject, resp->host, f.status, advice_on_status(f.status),
			more, words.message[0] ? "; it says: " : "", words.message);
	finish(c, &f);
}

/* True: there is an answer to look at. */
static bool answered(struct imds_call *c, const struct http_response *resp)
{
	if (resp->result < 0)
		fail_without_answer(c, resp);
	else if (resp->status != 200)
		fail_with_status(c, resp);
	else
		return true;
	return false;
}

/* ---- answers; after the callback the call may be gone ---- */

static void on_instance(const struct http_response *resp, void *userdata)
{
	struct imds_call *c = userdata;
	struct imds_instance instance = { .name = NULL };
	struct error err = ERROR_INIT;

	if (!answered(c, resp))
		return;
	if (imds_instance_parse(resp->body, resp->len, &instance, &err) < 0) {
		fail(c, 200, &err);
		return;
	}
	c->instance_done(&instance, NULL, c->userdata);
	imds_instance_done(&instance);
}

static void on_user_data(const struct http_response *resp, void *userdata)
{
	struct imds_call *c = userdata;
	_cleanup_buf_ struct buf decoded = BUF_INIT(LIMIT_USER_DATA_DECODED);
	struct error why = ERROR_INIT, err;
	int r;

	if (!answered(c, resp))
		return;
	r = base64_decode(resp->body, resp->len, true, &decoded, &why);
	if (r == 0) {
		c->bytes_done(buf_str(&decoded), decoded.len, NULL, c->userdata);
		return;
	}
	if (r == -EFBIG)
		(void)error_set(&err, ERROR_PLATFORM, r, "%s: it is larger than %lu bytes, which Azure does not allow",
				c->subject, LIMIT_USER_DATA_DECODED);
	else
		(void)error_set(&err, r == -ENOMEM ? ERROR_SYSTEM : ERROR_PLATFORM, r,
				"%s: what %s answered is not base64: %.200s", c->subject, resp->host, why.msg);
	fail(c, 200, &err);
}

static void on_bytes(const struct http_response *resp, void *userdata)
{
	struct imds_call *c = userdata;

	if (answered(c, resp))
		c->bytes_done(resp->body, resp->len, NULL, c->userdata);
}

/* ---- requests ---- */

static int submit(struct http *http, struct http_request *req, http_done_fn on_done, const struct imds_call *described,
		  struct imds_call **ret, struct error *err)
{
	static const char *const headers[] = { "Metadata: true", "Content-Type: application/json", NULL };
	static const char *const get_headers[] = { "Metadata: true", NULL };
	_cleanup_(imds_call_freep) struct imds_call *c = malloc(sizeof(*c));
	int r;

	if (!c)
		return error_oom(err);
	*c = *described;
	req->headers = req->body ? headers : get_headers;
	req->connect_timeout_usec = usec_min(CONNECT_TIMEOUT, req->timeout_usec);
	r = http_submit(http, req, on_done, c, &c->http, err);
	if (r < 0)
		return error_wrap(err, r, "%s", c->subject);
	*ret = TAKE_PTR(c);
	return 0;
}

int imds_get_instance(struct http *http, imds_instance_fn done, void *userdata, struct imds_call **ret,
		      struct error *err)
{
	const struct imds_call c = { .subject = "instance metadata", .instance_done = done, .userdata = userdata };
	struct http_request req = { .url = INSTANCE_URL, .timeout_usec = TIMEOUT, .max_body = LIMIT_IMDS_INSTANCE };

	return submit(http, &req, on_instance, &c, ret, err);
}

int imds_get_user_data(struct http *http, imds_bytes_fn done, void *userdata, struct imds_call **ret, struct error *err)
{
	const struct imds_call c = { .subject = "user data", .bytes_done = done, .userdata = userdata };
	struct http_request req = { .url = USER_DATA_URL,
				    .timeout_usec = TIMEOUT,
				    .max_body = LIMIT_USER_DATA_ENCODED };

	return submit(http, &req, on_user_data, &c, ret, err);
}

static int events_url(const char *api_version, struct buf *out, struct error *err)
{
	(void)buf_puts(out, EVENTS_URL);
	if (buf_ok(out) < 0 || uri_encode(api_version, strlen(api_version), out) < 0)
		return error_set(err, ERROR_USER, -EINVAL, "scheduled events: \"%.40s\" is no api-version",
				 api_version);
	return 0;
}

int imds_get_events(struct http *http, const char *api_version, usec_t timeout, imds_bytes_fn done, void *userdata,
		    struct imds_call **ret, struct error *err)
{
	const struct imds_call c = { .subject = "scheduled events", .bytes_done = done, .userdata = userdata };
	struct http_request req = { .timeout_usec = timeout, .max_body = LIMIT_EVENTS_DOCUMENT };
	_cleanup_buf_ struct buf url = BUF_INIT(256);
	int r;

	r = events_url(api_version, &url, err);
	if (r < 0)
		return r;
	req.url = url.data;
	return submit(http, &req, on_bytes, &c, ret, err);
}

int imds_get_load_balancer(struct http *http, usec_t timeout, imds_bytes_fn done, void *userdata, struct imds_call **ret,
			   struct error *err)
{
	const struct imds_call c = { .subject = "load balancer metadata", .bytes_done = done, .userdata = userdata };
	struct http_request req = { .url = BALANCER_URL, .timeout_usec = timeout, .max_body = LIMIT_LOAD_BALANCER };

	return submit(http, &req, on_bytes, &c, ret, err);
}

static int start_requests(const char *const *ids, struct buf *out)
{
	(void)buf_puts(out, "{\"StartRequests\":[");
	for (const char *const *id = ids; *id; id++) {
		(void)buf_puts(out, id == ids ? "{\"EventId\":" : ",{\"EventId\":");
		(void)jd_quote(out, *id, strlen(*id));
		(void)buf_putc(out, '}');
	}
	(void)buf_puts(out, "]}");
	return buf_ok(out);
}

int imds_acknowledge(struct http *http, const char *api_version, const char *const *ids, imds_bytes_fn done,
		     void *userdata, struct imds_call **ret, struct error *err)
{
	const struct imds_call c = { .subject = "acknowledgement", .bytes_done = done, .userdata = userdata };
	struct http_request req = { .timeout_usec = TIMEOUT, .max_body = LIMIT_ERROR_BODY };
	_cleanup_buf_ struct buf url = BUF_INIT(256), body = BUF_INIT(LIMIT_POST);
	int r;

	r = events_url(api_version, &url, err);
	if (r < 0)
		return r;
	r = start_requests(ids, &body);
	if (r < 0)
		return error_errno(err, r, "acknowledgement: cannot write the request");
	req.url = url.data;
	req.body = body.data;
	req.body_len = body.len;
	return submit(http, &req, on_bytes, &c, ret, err);
}

void imds_call_free(struct imds_call *c)
{
	if (!c)
		return;
	http_call_free(c->http);
	free(c);
}
