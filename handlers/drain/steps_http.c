/*
 * `http`: one request, judged by its status. Secrets in the URL and the headers are looked up when the request is made: the
 * plan and its record know them by name only. What counts is the value in force then, so a token that was renewed while the
 * VM was drained is used; where settings have dropped the reference meanwhile (the section was removed, say), it is the
 * last value that this process has known. A process that has been restarted since then knows none, and the step fails
 * telling so: no value of a secret is ever written down.
 */
#include "handlers/drain/steps_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/secret.h"
#include "agent/base/str.h"
#include "agent/core/settings.h"
#include "agent/io/http.h"

/* ---- values of secrets ---- */

static struct kept_secret *find_secret(const struct drain_steps *s, const char *name)
{
	for (size_t i = 0; i < s->n_secrets; i++)
		if (str_equal(s->secrets[i].name, name))
			return &s->secrets[i];
	return NULL;
}

void steps_secrets_done(struct drain_steps *s)
{
	for (size_t i = 0; i < s->n_secrets; i++) {
		free(s->secrets[i].name);
		erase_and_free(s->secrets[i].value);
	}
	free(s->secrets);
	s->secrets = NULL;
	s->n_secrets = 0;
}

static int keep(struct drain_steps *s, const struct settings *settings, const struct jd_secretable *v)
{
	const char *value = v->ref ? settings_value(settings, SECTION_DRAIN, v) : NULL;
	struct kept_secret *kept, *grown;
	char *copy;

	if (!value)
		return 0;
	kept = find_secret(s, v->ref);
	if (!kept) {
		grown = reallocarray(s->secrets, s->n_secrets + 1, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		s->secrets = grown;
		kept = &grown[s->n_secrets];
		*kept = (struct kept_secret){ .name = strdup(v->ref) };
		if (!kept->name)
			return -ENOMEM;
		s->n_secrets++;
	}
	copy = strdup(value);
	if (!copy)
		return -ENOMEM;
	erase_and_free(kept->value);
	kept->value = copy;
	return 0;
}

static int keep_all_of(struct drain_steps *s, const struct settings *settings, const struct http_step *h)
{
	const struct script_variable *headers = h ? h->headers.items : NULL;
	int r = h ? keep(s, settings, &h->url) : 0;

	for (size_t i = 0; h && r >= 0 && i < h->headers.n; i++)
		r = keep(s, settings, &headers[i].value);
	return r;
}

int drain_steps_settings(struct drain_steps *s, const struct settings *settings, bool drained)
{
	const struct step_settings *steps = settings && settings->drain ? settings->drain->steps.items : NULL;
	size_t n = steps ? settings->drain->steps.n : 0;
	bool balancer = false;
	int r = 0;

	if (!drained)
		steps_secrets_done(s);
	for (size_t i = 0; r >= 0 && i < n; i++) {
		const struct step_settings *inner = steps[i].steps.items;
		size_t n_inner = steps[i].type == STEP_PARALLEL ? steps[i].steps.n : 1;

		for (size_t k = 0; r >= 0 && k < n_inner; k++) {
			const struct step_settings *one = steps[i].type == STEP_PARALLEL ? &inner[k] : &steps[i];

			balancer = balancer || (one->type == STEP_WAIT_FOR_CONNECTIONS && one->ports_from_load_balancer);
			if (one->type == STEP_HTTP)
				r = keep_all_of(s, settings, &one->http);
			if (one->type == STEP_HTTP && r >= 0)
				r = keep_all_of(s, settings, one->http_undo);
		}
	}
	if (balancer)
		steps_balancer_ask(s);
	return r;
}

const char *steps_value(const struct drain_steps *s, const struct jd_secretable *v, const char *what, struct error *err)
{
	const struct kept_secret *kept = v->ref ? find_secret(s, v->ref) : NULL;

	if (!v->ref && v->text)
		return v->text;
	if (kept && kept->value)
		return kept->value;
	(void)error_set(err, ERROR_USER, -ENOKEY, "%s: the settings in force have no secret \"%s\"", what, v->ref ? v->ref : "");
	return NULL;
}

/* ---- the request ---- */

static void headers_free(char **lines)
{
	for (char **l = lines; l && *l; l++)
		erase_and_free(*l);
	free(lines);
}
DEFINE_CLEANUP(char **, headers_free)

static int make_headers(const struct drain_steps *s, const struct http_step *h, char ***ret, struct error *err)
{
	const struct script_variable *headers = h->headers.items;
	_cleanup_(headers_freep) char **lines = calloc(h->headers.n + 1, sizeof(*lines));

	if (!lines)
		return error_oom(err);
	for (size_t i = 0; i < h->headers.n; i++) {
		const char *value = steps_value(s, &headers[i].value, headers[i].name, err);

		if (!value)
			return -ENOKEY;
		/* "Name;" is how the client is told to send one without a value. */
		lines[i] = *value ? str_format("%s: %s", headers[i].name, value) : str_format("%s;", headers[i].name);
		if (!lines[i])
			return error_oom(err);
	}
	*ret = TAKE_PTR(lines);
	return 0;
}

static bool expected(const struct doing *d, long status)
{
	for (size_t i = 0; i < d->n_expected; i++)
		if (d->expected[i] == status)
			return true;
	return false;
}

static void on_answer(const struct http_response *resp, void *userdata)
{
	struct doing *d = userdata;
	char text[DETAIL_MAX];

	/* Whatever follows the status is of no interest, however much it is. */
	if (resp->result < 0 && !(resp->result == -EFBIG && resp->status)) {
		(void)snprintf(text, sizeof(text), "%s", str_empty(resp->detail) ? strerror(-resp->result) : resp->detail);
		step_end(d, resp->result == -ETIMEDOUT ? STEP_OUTCOME_TIMEOUT : STEP_OUTCOME_FAILED, 0, text);
	} else if (expected(d, resp->status)) {
		step_end(d, STEP_OUTCOME_OK, 0, NULL);
	} else {
		(void)snprintf(text, sizeof(text), "%s answered %ld, which is not expected", resp->host, resp->status);
		step_end(d, STEP_OUTCOME_FAILED, (int)resp->status, text);
	}
}

static int discard(const void *data, size_t len, void *userdata)
{
	(void)data;
	(void)len;
	(void)userdata;
	return 0;
}

static int submit(struct doing *d, const struct http_step *h, usec_t timeout, struct error *err)
{
	_cleanup_(headers_freep) char **headers = NULL;
	const char *url = steps_value(d->steps, &h->url, "url", err);
	const struct http_request req = { .method = h->method,
					  .url = url,
					  .body = h->body,
					  .body_len = h->body ? strlen(h->body) : 0,
					  .timeout_usec = timeout,
					  .max_body = LIMIT_ERROR_BODY,
					  .sink = discard,
					  .secret = true };
	struct http_request whole = req;
	int r;

	if (!url)
		return -ENOKEY;
	r = make_headers(d->steps, h, &headers, err);
	if (r < 0)
		return r;
	whole.headers = (const char *const *)headers;
	return http_submit(d->steps->host->http, &whole, on_answer, d, &d->request, err);
}

static void begin_http(struct doing *d, const struct drain_action *a, const struct drain_state *state)
{
	const struct http_step *h = a->undo ? a->step->http_undo : &a->step->http;
	const int64_t *statuses = h->expect.items;
	struct error e = ERROR_INIT;

	(void)state;
	for (size_t i = 0; i < h->expect.n && i < EXPECTED_MAX; i++)
		d->expected[d->n_expected++] = statuses[i];
	if (submit(d, h, usec_max(a->timeout_usec, USEC_PER_MSEC), &e) < 0)
		step_end_failed(d, &e);
}

static void stop_http(struct doing *d)
{
	http_call_free(TAKE_PTR(d->request));
	step_end_stopped(d);
}

const struct step_kind step_http = { .begin = begin_http, .stop = stop_http };
