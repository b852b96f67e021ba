/*
 * The status model as the platform's document, within its limits (extension-contract.md 4.1): every formattedMessage is
 * present, or the agent chokes on it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/digest.h"
#include "agent/codec/json.h"
#include "agent/codec/timefmt.h"
#include "agent/core/exit_codes.h"
#include "agent/core/status_internal.h"

#define MESSAGE_LEAST 128
#define CERTIFICATES  "keyRefresh/"

struct words {
	char *lang, *message;
};

struct part {
	char *name;
	int status;
	int64_t code;
	struct words words;
};

struct body {
	char *name, *operation, *applied;
	int status;
	int64_t code;
	struct words words;
	struct jd_list parts; /* of struct part */
};

struct envelope {
	int64_t version;
	char *timestamp;
	struct body body;
};

static const struct jd_type text_type = { .kind = JD_TEXT };
static const struct jd_type number_type = { .kind = JD_INTEGER, .min = INT32_MIN, .max = INT32_MAX };
static const struct jd_type level_type = { .kind = JD_CHOICE, .names = status_level_names };

/* clang-format off */
static const struct jd_field words_fields[] = {
	{ "lang",    &text_type, offsetof(struct words, lang),    0 },
	{ "message", &text_type, offsetof(struct words, message), 0 },
	{ NULL },
};
static const struct jd_type words_type = { .kind = JD_OBJECT, .fields = words_fields, .size = sizeof(struct words) };

static const struct jd_field part_fields[] = {
	{ "name",             &text_type,   offsetof(struct part, name),   0 },
	{ "status",           &level_type,  offsetof(struct part, status), 0 },
	{ "code",             &number_type, offsetof(struct part, code),   0 },
	{ "formattedMessage", &words_type,  offsetof(struct part, words),  0 },
	{ NULL },
};
static const struct jd_type part_type = { .kind = JD_OBJECT, .fields = part_fields, .size = sizeof(struct part) };
static const struct jd_type parts_type = { .kind = JD_LIST, .max = LIMIT_STATUS_SUBSTATUS, .element = &part_type };

static const struct jd_field body_fields[] = {
	{ "name",                     &text_type,   offsetof(struct body, name),      0 },
	{ "operation",                &text_type,   offsetof(struct body, operation), 0 },
	{ "configurationAppliedTime", &text_type,   offsetof(struct body, applied),   0 },
	{ "status",                   &level_type,  offsetof(struct body, status),    0 },
	{ "code",                     &number_type, offsetof(struct body, code),      0 },
	{ "formattedMessage",         &words_type,  offsetof(struct body, words),     0 },
	{ "substatus",                &parts_type,  offsetof(struct body, parts),     0 },
	{ NULL },
};
static const struct jd_type body_type = { .kind = JD_OBJECT, .fields = body_fields, .size = sizeof(struct body) };

static const struct jd_field envelope_fields[] = {
	{ "version",      &number_type, offsetof(struct envelope, version),   0 },
	{ "timestampUTC", &text_type,   offsetof(struct envelope, timestamp), 0 },
	{ "status",       &body_type,   offsetof(struct envelope, body),      0 },
	{ NULL },
};
static const struct jd_type envelope_type = { .kind = JD_OBJECT, .fields = envelope_fields, .size = sizeof(struct envelope) };
static const struct jd_type document_type = { .kind = JD_LIST, .min = 1, .max = 1, .element = &envelope_type };
/* clang-format on */

static char *cut_message(const char *s, size_t most)
{
	static const char mark[] = " … [cut; the whole is in the log]";
	size_t len = strlen(s);

	if (len <= most)
		return strdup(s);
	return str_format("%.*s%s", (int)utf8_cut(s, len, most - sizeof(mark)), s, mark);
}

static int fill_words(struct words *w, const char *message, size_t most)
{
	w->lang = strdup("en-US");
	w->message = cut_message(message, most);
	return w->lang && w->message ? 0 : -ENOMEM;
}

static int fill_part(struct part *p, const char *name, enum status_level level, int code, const char *message, size_t most)
{
	p->name = cut_message(name, 200);
	p->status = (int)level;
	p->code = code;
	return p->name ? fill_words(&p->words, message, most) : -ENOMEM;
}

static bool is_certificate(const struct status_item *it)
{
	return str_starts(it->name, CERTIFICATES);
}

/* Of many certificates the healthy ones are one line. */
static bool summed_up(const struct status_item *it, size_t certificates)
{
	return certificates > LIMIT_STATUS_CERTIFICATES && is_certificate(it) && it->level == STATUS_SUCCESS;
}

static int fill_parts(const struct status_model *m, struct body *b, size_t most)
{
	struct part *parts = calloc(LIMIT_STATUS_SUBSTATUS, sizeof(*parts));
	size_t certificates = 0, healthy = 0, left_out = 0, n = 0;
	size_t ordinary = most < LIMIT_STATUS_MESSAGE ? most : LIMIT_STATUS_MESSAGE;
	int r = 0;

	if (!parts)
		return -ENOMEM;
	b->parts.items = parts;
	for (size_t i = 0; i < m->n; i++)
		certificates += is_certificate(&m->items[i]);
	/* The platform shows the code of this part to the customer (custom-script.md 3). */
	if (m->top == STATUS_ERROR && m->code != CODE_NONE)
		r = fill_part(&parts[n++], "ErrorClarification", STATUS_ERROR, m->code, m->message, ordinary);
	for (size_t i = 0; r >= 0 && i < m->n; i++) {
		const struct status_item *it = &m->items[i];

		if (summed_up(it, certificates))
			healthy++;
		else if (n >= LIMIT_STATUS_SUBSTATUS - 2)
			left_out++;
		else
			r = fill_part(&parts[n++], it->name, it->level, it->code, it->message, it->has_output ? most : ordinary);
	}
	if (r >= 0 && healthy) {
		_cleanup_free_ char *text = str_format("%zu certificates are installed and current", healthy);

		r = text ? fill_part(&parts[n++], "keyRefresh", STATUS_SUCCESS, CODE_NONE, text, most) : -ENOMEM;
	}
	if (r >= 0 && left_out) {
		_cleanup_free_ char *text = str_format("%zu more components are not listed; see evenkeel status", left_out);

		r = text ? fill_part(&parts[n++], "more", STATUS_WARNING, CODE_NONE, text, most) : -ENOMEM;
	}
	b->parts.n = n;
	return r;
}

static int fill_envelope(const struct status_model *m, const char *handler_name, usec_t now_wall, size_t most,
			 struct envelope *e)
{
	char now[TIMEFMT_MAX];

	(void)timefmt_utc(now_wall, now);
	e->version = 1;
	e->timestamp = strdup(now);
	e->body.name = strdup(handler_name);
	e->body.operation = strdup("Enable");
	e->body.applied = strdup(now);
	e->body.status = (int)m->top;
	e->body.code = m->code;
	if (!e->timestamp || !e->body.name || !e->body.operation || !e->body.applied ||
	    fill_words(&e->body.words, status_top_message(m), most) < 0)
		return -ENOMEM;
	return fill_parts(m, &e->body, most);
}

/* Messages shrink until the whole fits: a larger file would be cut by the agent, and not kindly. */
int status_document(const struct status_model *m, const char *handler_name, usec_t now_wall, struct buf *out)
{
	for (size_t most = LIMIT_STATUS_OUTPUT; most >= MESSAGE_LEAST; most /= 2) {
		_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_STATUS_FILE);
		struct envelope *e = calloc(1, sizeof(*e));
		struct jd_list document = { .items = e, .n = 1 };
		int r;

		if (!e)
			return -ENOMEM;
		r = fill_envelope(m, handler_name, now_wall, most, e);
		if (r >= 0)
			r = jd_encode(&document_type, &document, false, &text);
		jd_free(&document_type, &document);
		if (r >= 0)
			return buf_append(out, text.data, text.len);
		if (r != -EFBIG)
			return r;
	}
	return -EFBIG;
}

bool status_changed(const struct status_model *m, const char *previous_digest, char ret_digest[static 65])
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_STATUS_FILE);

	ret_digest[0] = '\0';
	if (status_document(m, "", 0, &text) < 0 || sha256_hex(text.data, text.len, ret_digest) < 0)
		return true;
	return !str_equal(ret_digest, previous_digest);
}
