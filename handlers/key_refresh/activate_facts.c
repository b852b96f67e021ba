/*
 * What check, commands and hooks of an activation are told (evenkeel-hooks(7) is the contract):
 *
 *   EVENKEEL_PHASE     check, activate or rollback
 *   EVENKEEL_NAMES     of all items, with a blank between them
 * and of a single one, in check and commands:
 *   EVENKEEL_NAME, _KIND, _VERSION, _THUMBPRINT, _NOT_AFTER, _FORMER_VERSION, _FORMER_THUMBPRINT, _DIRECTORY,
 *   _FILE_FULLCHAIN, _FILE_CERTIFICATE, _FILE_CHAIN, _FILE_KEY, _FILE_COMBINED, _FILE_PKCS12, _FILE_SECRET
 *
 * Standard input is one JSON object:
 *   {"version":1,"phase":"activate",
 *    "items":[{"name":"web","kind":"certificate","version":"…","thumbprint":"…","notAfter":"2026-11-20T10:00:00Z",
 *              "former":{"version":"…","thumbprint":"…"},"directory":"/etc/nginx/tls",
 *              "files":{"fullchain":"/etc/nginx/tls/fullchain.pem","key":"/etc/nginx/tls/privkey.pem"}}]}
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/codec/json.h"
#include "agent/codec/timefmt.h"
#include "agent/io/paths.h"
#include "handlers/key_refresh/activate.h"
#include "handlers/key_refresh/item.h"
#include "handlers/key_refresh/layout.h"

#define INPUT_MAX (256 * 1024)
#define LINES_MAX 400 /* of a command's output, in a sentence */

static const char *const phase_names[] = { [TOLD_CHECK] = "check", [TOLD_ACTIVATE] = "activate", [TOLD_ROLLBACK] = "rollback",
					   [TOLD_HOOKS] = "activate" };

struct version {
	const char *version, *thumbprint;
	int64_t not_after;
};

/* What is in use when all goes well, and what was before; of a first install and of hooks there is no former one. */
static void find_versions(const struct item *i, enum told_phase phase, struct version *ret, struct version *ret_former)
{
	const struct key_record *r = &i->plan.record;
	const struct key_candidate *c = &r->activation.candidate;
	const struct version installed = { r->version, r->thumbprint, r->not_after_usec };
	const struct version candidate = { c->version, c->thumbprint, c->not_after_usec };
	bool two = c->version && phase != TOLD_HOOKS;

	*ret = two && phase != TOLD_ROLLBACK ? candidate : installed;
	*ret_former = !two ? (struct version){ NULL } : phase == TOLD_ROLLBACK ? candidate : installed;
}

static const char *part_name(enum key_part part)
{
	switch (part) {
	case PART_SECRET:
		return "secret";
	case PART_FULLCHAIN:
		return "fullchain";
	case PART_CERTIFICATE:
		return "certificate";
	case PART_CHAIN:
		return "chain";
	case PART_KEY:
		return "key";
	case PART_COMBINED:
		return "combined";
	case PART_PKCS12:
		return "pkcs12";
	default:
		return NULL;
	}
}

static const char *kind_of(const struct item *i)
{
	return i->plan.wish.certificate ? "certificate" : "secret";
}

static const char *when(int64_t usec, char out[static TIMEFMT_MAX])
{
	return usec ? timefmt_utc((usec_t)usec, out) : "";
}

static const char *text_of(const char *s)
{
	return s ? s : "";
}

/* ---- environment ---- */

static int add_files(struct job *spec, const struct item *i)
{
	_cleanup_(key_layout_done) struct key_layout l = { 0 };
	int r = key_layout_find(i->h->host->paths, &i->plan.wish, NULL, &l);

	if (r >= 0)
		r = job_add_variable(spec, "EVENKEEL_DIRECTORY", l.directory);
	for (size_t k = 0; r >= 0 && k < l.n; k++) {
		const char *part = part_name(l.files[k].part);
		_cleanup_free_ char *name = part ? str_format("EVENKEEL_FILE_%s", part) : NULL;
		_cleanup_free_ char *path = path_join(l.directory, l.files[k].name);

		for (char *p = name; p && *p; p++)
			*p = (char)toupper((unsigned char)*p);
		if (part)
			r = name && path ? job_add_variable(spec, name, path) : -ENOMEM;
	}
	return r;
}

static int add_item(struct job *spec, const struct item *i, enum told_phase phase)
{
	struct version v, former;
	char until[TIMEFMT_MAX];
	int r;

	find_versions(i, phase, &v, &former);
	r = job_add_variable(spec, "EVENKEEL_NAME", i->name);
	r = r < 0 ? r : job_add_variable(spec, "EVENKEEL_KIND", kind_of(i));
	r = r < 0 ? r : job_add_variable(spec, "EVENKEEL_VERSION", v.version);
	r = r < 0 ? r : job_add_variable(spec, "EVENKEEL_THUMBPRINT", v.thumbprint);
	r = r < 0 ? r : job_add_variable(spec, "EVENKEEL_NOT_AFTER", when(v.not_after, until));
	r = r < 0 ? r : job_add_variable(spec, "EVENKEEL_FORMER_VERSION", former.version);
	r = r < 0 ? r : job_add_variable(spec, "EVENKEEL_FORMER_THUMBPRINT", former.thumbprint);
	return r < 0 ? r : add_files(spec, i);
}

static int add_names(struct job *spec, struct item *const *items, size_t n)
{
	_cleanup_buf_ struct buf b = BUF_INIT(INPUT_MAX);

	for (size_t k = 0; k < n; k++)
		(void)buf_printf(&b, "%s%s", k ? " " : "", items[k]->name);
	return buf_ok(&b) < 0 ? buf_ok(&b) : job_add_variable(spec, "EVENKEEL_NAMES", buf_str(&b));
}

/* ---- standard input ---- */

static void put_text(struct buf *b, const char *before, const char *text)
{
	(void)buf_puts(b, before);
	(void)jd_quote(b, text_of(text), strlen(text_of(text)));
}

static int put_files(struct buf *b, const struct item *i)
{
	_cleanup_(key_layout_done) struct key_layout l = { 0 };
	const char *between = "";

	if (key_layout_find(i->h->host->paths, &i->plan.wish, NULL, &l) < 0)
		return -ENOMEM;
	put_text(b, ",\"directory\":", l.directory);
	(void)buf_puts(b, ",\"files\":{");
	for (size_t k = 0; k < l.n; k++) {
		const char *part = part_name(l.files[k].part);
		_cleanup_free_ char *path = path_join(l.directory, l.files[k].name);

		if (!path)
			return -ENOMEM;
		if (!part)
			continue;
		(void)buf_printf(b, "%s\"%s\":", between, part);
		put_text(b, "", path);
		between = ",";
	}
	return buf_puts(b, "}");
}

static int put_item(struct buf *b, const struct item *i, enum told_phase phase)
{
	struct version v, former;
	char until[TIMEFMT_MAX];

	find_versions(i, phase, &v, &former);
	put_text(b, "{\"name\":", i->name);
	put_text(b, ",\"kind\":", kind_of(i));
	put_text(b, ",\"version\":", v.version);
	put_text(b, ",\"thumbprint\":", v.thumbprint);
	put_text(b, ",\"notAfter\":", when(v.not_after, until));
	if (former.version) {
		put_text(b, ",\"former\":{\"version\":", former.version);
		put_text(b, ",\"thumbprint\":", former.thumbprint);
		(void)buf_puts(b, "}");
	}
	if (put_files(b, i) < 0)
		return -ENOMEM;
	return buf_puts(b, "}");
}

int activate_tell(struct job *spec, struct item *const *items, size_t n, enum told_phase phase)
{
	_cleanup_buf_ struct buf b = BUF_INIT(INPUT_MAX);
	int r = job_add_variable(spec, "EVENKEEL_PHASE", phase_names[phase]);

	if (r >= 0)
		r = add_names(spec, items, n);
	if (r >= 0 && phase != TOLD_HOOKS)
		r = add_item(spec, items[0], phase);
	put_text(&b, "{\"version\":1,\"phase\":", phase_names[phase]);
	(void)buf_puts(&b, ",\"items\":[");
	for (size_t k = 0; r >= 0 && k < n; k++) {
		(void)buf_puts(&b, k ? "," : "");
		r = put_item(&b, items[k], phase);
	}
	(void)buf_puts(&b, "]}\n");
	if (r >= 0)
		r = buf_ok(&b);
	if (r < 0)
		return r;
	spec->input = buf_take(&b);
	return 0;
}

/* ---- what came of it ---- */

/* The last lines as part of a sentence. */
static void put_lines(struct buf *out, const char *text)
{
	size_t len = strlen(text);
	bool blank = true;

	while (len && isspace((unsigned char)text[len - 1]))
		len--;
	if (!len)
		return;
	(void)buf_puts(out, ": ");
	for (size_t k = utf8_tail(text, len, LINES_MAX); k < len; k++) {
		bool space = isspace((unsigned char)text[k]);

		if (!space || !blank)
			(void)buf_putc(out, space ? ' ' : text[k]);
		blank = space;
	}
}

void activate_phrase(const struct job_result *r, struct buf *out)
{
	char phrase[128];

	(void)buf_puts(out, job_result_why(r, phrase));
	if (!str_empty(r->stderr_tail))
		put_lines(out, r->stderr_tail);
	else if (!str_empty(r->stdout_tail))
		put_lines(out, r->stdout_tail);
}
