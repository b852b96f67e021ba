/*
 * What agent/azure answers, for Python: one command per line of stdin, one line of JSON per answer on stdout. The
 * process lives as long as stdin, so that caches do too.
 *
 *   azure_probe CONNECT_TO CA_FILE ROOT
 *   instance | userdata | events VERSION MILLISECONDS [ETAG] | ack VERSION ID…
 *   token ENDPOINT RESOURCE IDENTITY cached|fresh MILLISECONDS COUNT     COUNT answers; IDENTITY: - or clientId=…;
 *                                                                        the last * of RESOURCE: the call's number
 *   abandon (the same)                                                   asks, and gives up at once: one answer
 *   vault URL ENDPOINT IDENTITY pem|raw [SUFFIX…] [known VERSION…]
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/azure/identity.h"
#include "agent/azure/imds.h"
#include "agent/azure/keyvault.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/codec/json.h"
#include "agent/core/settings_common.h"
#include "agent/io/http.h"
#include "agent/io/loop.h"

#define WORDS 16
#define CALLS 100

struct probe {
	struct loop *loop;
	struct http *http;
	struct tokens *tokens;
	struct vaults *vaults;
	struct imds_call *imds;
	struct token_call *calls[CALLS];
	struct vault_call *vault;
	struct identity identity;
	struct loop_timer *begin, *later;
	char *command;
	unsigned pending;
	struct buf line;
};

/* ---- answers ---- */

static void put_text(struct buf *b, const char *key, const char *value)
{
	(void)buf_printf(b, ", \"%s\": ", key);
	if (value)
		(void)jd_quote(b, value, strlen(value));
	else
		(void)buf_puts(b, "null");
}

static void put_error(struct buf *b, const struct error *err)
{
	(void)buf_printf(b, ", \"code\": \"%s\"", strerrorname_np(-err->code));
	put_text(b, "class", error_class_name(err->cls));
	put_text(b, "message", err->msg);
}

static void end_line(struct probe *p)
{
	(void)buf_puts(&p->line, "}\n");
	if (buf_ok(&p->line) < 0)
		exit(3);
	(void)fwrite(p->line.data, 1, p->line.len, stdout);
	(void)fflush(stdout);
	buf_reset(&p->line);
}

static void answer_done(struct probe *p)
{
	end_line(p);
	if (--p->pending == 0)
		loop_exit(p->loop, 0);
}

/* A command that could not even begin. */
static void refused(struct probe *p, const struct error *err)
{
	(void)buf_puts(&p->line, "{\"refused\": true");
	put_error(&p->line, err);
	end_line(p);
}

static void put_imds_failure(struct buf *b, const struct imds_failure *f)
{
	(void)buf_printf(b, "{\"status\": %d, \"retryAfter\": %.6f", f->status,
			 (double)f->retry_after / (double)USEC_PER_SEC);
	put_text(b, "newest", f->newest_version);
	put_error(b, &f->err);
}

static void on_instance(const struct imds_instance *i, const struct imds_failure *f, void *userdata)
{
	struct probe *p = userdata;

	if (f) {
		put_imds_failure(&p->line, f);
	} else {
		(void)buf_puts(&p->line, "{\"status\": 200");
		put_text(&p->line, "name", i->name);
		put_text(&p->line, "vmId", i->vm_id);
		put_text(&p->line, "location", i->location);
		put_text(&p->line, "environment", i->environment);
		put_text(&p->line, "scaleSet", i->scale_set);
		put_text(&p->line, "vmSize", i->vm_size);
		put_text(&p->line, "resourceId", i->resource_id);
	}
	imds_call_free(TAKE_PTR(p->imds)); /* in its own callback, as handlers do */
	answer_done(p);
}

static void on_bytes(const char *body, size_t len, const struct imds_failure *f, void *userdata)
{
	struct probe *p = userdata;

	if (f) {
		put_imds_failure(&p->line, f);
	} else {
		(void)buf_printf(&p->line, "{\"status\": 200, \"length\": %zu, \"body\": ", len);
		(void)jd_quote(&p->line, body, len);
	}
	imds_call_free(TAKE_PTR(p->imds));
	answer_done(p);
}

static void on_events(const struct imds_events *events, const struct imds_failure *f, void *userdata)
{
	struct probe *p = userdata;

	if (f) {
		put_imds_failure(&p->line, f);
	} else if (events->unchanged) {
		(void)buf_puts(&p->line, "{\"status\": 304");
	} else {
		(void)buf_printf(&p->line, "{\"status\": 200, \"length\": %zu, \"body\": ", events->len);
		(void)jd_quote(&p->line, events->body, events->len);
		put_text(&p->line, "etag", events->etag);
	}
	imds_call_free(TAKE_PTR(p->imds));
	answer_done(p);
}

static void on_token(const char *token, const char *who, const struct error *err, void *userdata)
{
	struct probe *p = userdata;

	(void)buf_puts(&p->line, token ? "{\"given\": true" : "{\"given\": false");
	put_text(&p->line, "token", token);
	put_text(&p->line, "who", who);
	if (err)
		put_error(&p->line, err);
	answer_done(p);
}

static void on_secret(const struct vault_secret *s, const struct vault_failure *f, const char *who, void *userdata)
{
	struct probe *p = userdata;

	if (f) {
		(void)buf_printf(&p->line, "{\"status\": %d, \"retryAfter\": %.6f, \"disabled\": %s", f->status,
				 (double)f->retry_after / (double)USEC_PER_SEC, f->disabled ? "true" : "false");
		put_error(&p->line, &f->err);
	} else {
		(void)buf_printf(&p->line, "{\"status\": 200, \"length\": %zu, \"enabled\": %s, \"newestDisabled\": %s",
				 s->len, s->enabled ? "true" : "false", s->newest_disabled ? "true" : "false");
		(void)buf_printf(&p->line,
				 ", \"notBefore\": %" PRIu64 ", \"expires\": %" PRIu64 ", \"created\": %" PRIu64,
				 s->not_before / USEC_PER_SEC, s->expires / USEC_PER_SEC, s->created / USEC_PER_SEC);
		put_text(&p->line, "value", s->value);
		put_text(&p->line, "version", s->version);
		put_text(&p->line, "previous", s->previous);
		put_text(&p->line, "contentType", s->content_type);
	}
	put_text(&p->line, "who", who);
	vault_call_free(TAKE_PTR(p->vault)); /* in its own callback, as handlers do */
	answer_done(p);
}

/* ---- commands ---- */

static void set_identity(struct probe *p, char *word)
{
	char *value = strchr(word, '=');

	p->identity = (struct identity){ .client_id = NULL };
	if (!value)
		return;
	*value++ = '\0';
	if (str_equal(word, "clientId"))
		p->identity.client_id = value;
	else if (str_equal(word, "objectId"))
		p->identity.object_id = value;
	else if (str_equal(word, "resourceId"))
		p->identity.resource_id = value;
	else
		exit(5);
}

static int begin_vault(struct probe *p, char **words, struct error *err)
{
	char **known = words + 5;
	struct jd_list suffixes = { .items = words + 5 };
	struct vault_request req = {
		.url = words[1],
		.identity_endpoint = words[2],
		.identity = &p->identity,
		.want_pem = str_equal(words[4], "pem"),
		.suffixes = &suffixes,
		.vaults = p->vaults,
	};

	for (; *known && !str_equal(*known, "known"); known++)
		suffixes.n++;
	if (*known)
		req.known_versions = (const char *const *)known + 1;
	set_identity(p, words[3]);
	return vault_get(p->loop, p->http, p->tokens, &req, on_secret, p, &p->vault, err);
}

static void free_calls(struct probe *p)
{
	for (size_t i = 0; i < CALLS; i++)
		token_call_free(TAKE_PTR(p->calls[i]));
}

/* Each by itself may be refused. */
static int begin_tokens(struct probe *p, char **words, struct error *err)
{
	usec_t deadline = time_boot() + strtoull(words[5], NULL, 10) * USEC_PER_MSEC;
	unsigned count = (unsigned)strtoul(words[6], NULL, 10);

	set_identity(p, words[3]);
	p->pending = count;
	for (unsigned i = 0; i < count && i < CALLS; i++) {
		char *star = strrchr(words[2], '*');
		_cleanup_free_ char *resource =
			star ? str_format("%.*s%u", (int)(star - words[2]), words[2], i) : strdup(words[2]);
		int r = token_get(p->tokens, words[1], resource, &p->identity, str_equal(words[4], "fresh"), deadline,
				  on_token, p, &p->calls[i], err);

		if (r < 0)
			return r;
	}
	return 0;
}

static void on_abandoned(void *userdata)
{
	struct probe *p = userdata;

	(void)buf_puts(&p->line, "{\"abandoned\": true");
	answer_done(p);
}

/* The loop goes round until a request has begun, and what nobody waits for any more has been given up. */
static int begin_abandoned(struct probe *p, char **words, struct error *err)
{
	int r = begin_tokens(p, words, err);

	free_calls(p);
	p->pending = 1;
	loop_timer_after(p->later, 100 * USEC_PER_MSEC);
	return r;
}

static int begin(struct probe *p, char **words, size_t n, struct error *err)
{
	const char *command = n ? words[0] : "";

	p->pending = 1;
	if (str_equal(command, "instance"))
		return imds_get_instance(p->http, on_instance, p, &p->imds, err);
	if (str_equal(command, "userdata"))
		return imds_get_user_data(p->http, on_bytes, p, &p->imds, err);
	if (str_equal(command, "events") && (n == 3 || n == 4))
		return imds_get_events(p->http, words[1], n == 4 ? words[3] : NULL,
				       strtoull(words[2], NULL, 10) * USEC_PER_MSEC, on_events, p, &p->imds, err);
	if (str_equal(command, "ack") && n >= 2)
		return imds_acknowledge(p->http, words[1], (const char *const *)words + 2, on_bytes, p, &p->imds, err);
	if (str_equal(command, "token") && n == 7)
		return begin_tokens(p, words, err);
	if (str_equal(command, "abandon") && n == 7)
		return begin_abandoned(p, words, err);
	if (str_equal(command, "vault") && n >= 5)
		return begin_vault(p, words, err);
	return error_set(err, ERROR_USER, -EINVAL, "no such command: %s", command);
}

/* From the loop, as everything in life: outside it the time stands still. */
static void on_command(void *userdata)
{
	struct probe *p = userdata;
	char *words[WORDS + 1] = { NULL }, *rest = p->command, *word;
	struct error err = ERROR_INIT;
	size_t n = 0;

	while (n < WORDS && (word = strsep(&rest, " \n")))
		if (*word)
			words[n++] = word;
	if (begin(p, words, n, &err) == 0)
		return;
	refused(p, &err);
	loop_exit(p->loop, 0);
}

static void run(struct probe *p)
{
	loop_timer_after(p->begin, 0);
	if (loop_run(p->loop) < 0)
		exit(4);
	free_calls(p);
}

int main(int argc, char **argv)
{
	struct probe p = { .line = BUF_INIT(8UL << 20) };
	struct http_options options = { 0 };
	struct error err = ERROR_INIT;
	size_t size = 0;

	if (argc != 4)
		return 2;
	options.connect_to = argv[1];
	options.ca_file = argv[2];
	if (loop_new(&p.loop, &err) < 0 || http_new(&p.http, p.loop, &options, &err) < 0 ||
	    tokens_new(&p.tokens, p.loop, p.http, &err) < 0 || vaults_new(&p.vaults) < 0 || tokens_set_root(p.tokens, argv[3]) < 0 ||
	    loop_timer_new(p.loop, "later", on_abandoned, &p, &p.later) < 0 ||
	    loop_timer_new(p.loop, "begin", on_command, &p, &p.begin) < 0) {
		(void)fprintf(stderr, "%s\n", err.msg);
		return 1;
	}
	while (getline(&p.command, &size, stdin) > 0)
		run(&p);
	tokens_free(p.tokens);
	vaults_free(p.vaults);
	http_free(p.http);
	loop_timer_free(p.later);
	loop_timer_free(p.begin);
	free(p.command);
	loop_free(p.loop);
	buf_done(&p.line);
	return 0;
}
