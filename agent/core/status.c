/* The status model: components into a top level with a latch, and both into a document within its limits. */
#include "agent/core/status.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/digest.h"
#include "agent/codec/timefmt.h"
#include "agent/core/exit_codes.h"

/* No more is kept of one round than could ever be told or summed up: 500 certificates, 100 secrets, 32 scripts, a few more. */
#define ITEMS_MAX 700
#define MESSAGE_LEAST 128
#define CERTIFICATES "keyRefresh/"

struct item {
	char *name, *message, *headline;
	enum status_level level;
	enum duty duty;
	int code;
	bool has_output;
};

struct status_model {
	char *sequence;
	char *message;	     /* top level */
	char *first_message; /* what stands before any component has spoken */
	enum status_level top;
	int code;
	struct item *items;
	size_t n, cap;
	bool overflow; /* memory or limit: the round is incomplete */
};

static const char *const level_names[] = { "transitioning", "error", "success", "warning", NULL };

const char *status_level_name(enum status_level l)
{
	return level_names[l];
}

int status_model_new(struct status_model **ret)
{
	struct status_model *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	*ret = m;
	return 0;
}

static void forget_items(struct status_model *m)
{
	for (size_t i = 0; i < m->n; i++) {
		free(m->items[i].name);
		free(m->items[i].message);
		free(m->items[i].headline);
	}
	m->n = 0;
	m->overflow = false;
}

void status_model_free(struct status_model *m)
{
	if (!m)
		return;
	forget_items(m);
	free(m->items);
	free(m->sequence);
	free(m->message);
	free(m->first_message);
	free(m);
}

int status_model_resume(struct status_model *m, const char *sequence, enum status_level latched, const char *message)
{
	forget_items(m);
	if (str_set(&m->sequence, sequence) < 0 || str_set(&m->message, message) < 0 ||
	    str_set(&m->first_message, message) < 0)
		return -ENOMEM;
	m->top = latched == STATUS_WARNING ? STATUS_TRANSITIONING : latched;
	m->code = CODE_NONE;
	return 0;
}

int status_model_begin(struct status_model *m, const char *sequence, const char *accepted)
{
	return status_model_resume(m, sequence, STATUS_TRANSITIONING, accepted);
}

/* ---- a round ---- */

void status_round_begin(struct status_model *m)
{
	forget_items(m);
}

static int make_room(struct status_model *m)
{
	size_t cap = m->cap ? m->cap * 2 : 16;
	struct item *p;

	if (m->n < m->cap)
		return 0;
	if (m->n >= ITEMS_MAX)
		return -E2BIG;
	p = reallocarray(m->items, cap, sizeof(*p));
	if (!p)
		return -ENOMEM;
	m->items = p;
	m->cap = cap;
	return 0;
}

int status_round_add(struct status_model *m, const struct component *c)
{
	struct item it = { .level = c->level, .duty = c->duty, .code = c->code, .has_output = c->has_output };
	int r = make_room(m);

	if (r >= 0) {
		it.name = strdup(c->name);
		it.message = utf8_clean(c->message ? c->message : "", c->message ? strlen(c->message) : 0);
		it.headline = c->headline ? utf8_clean(c->headline, strlen(c->headline)) : NULL;
		if (!it.name || !it.message || (c->headline && !it.headline))
			r = -ENOMEM;
	}
	if (r < 0) {
		free(it.name);
		free(it.message);
		free(it.headline);
		m->overflow = true;
		return r;
	}
	m->items[m->n++] = it;
	return 0;
}

static enum status_level verdict(const struct status_model *m)
{
	enum status_level v = STATUS_SUCCESS;

	if (m->overflow || m->n == 0)
		return m->top;
	for (size_t i = 0; i < m->n; i++) {
		if (m->items[i].duty == DUTY_FAILED)
			return STATUS_ERROR;
		if (m->items[i].duty == DUTY_OPEN)
			v = STATUS_TRANSITIONING;
	}
	return v;
}

/* Success is for ever; error may become success only (settings.md 3.1: a status that turned back would block or skip the
 * extensions that depend on us). */
static enum status_level latch(enum status_level former, enum status_level now)
{
	if (former == STATUS_SUCCESS)
		return STATUS_SUCCESS;
	if (former == STATUS_ERROR)
		return now == STATUS_SUCCESS ? STATUS_SUCCESS : STATUS_ERROR;
	return now;
}

/* ---- the top message ---- */

static size_t first_line(const char *s)
{
	return strcspn(s, "\n");
}

static void say_attention(const struct status_model *m, struct buf *out)
{
	const struct item *first = NULL;
	size_t n = 0;

	for (size_t i = 0; i < m->n; i++)
		if (m->items[i].level == STATUS_ERROR || m->items[i].level == STATUS_WARNING) {
			first = first ? first : &m->items[i];
			n++;
		}
	if (n)
		(void)buf_printf(out, " %zu item%s attention: %s: %.*s", n, n == 1 ? " needs" : "s need", first->name,
				 (int)first_line(first->message), first->message);
}

static const char *headline(const struct status_model *m, enum duty duty)
{
	for (size_t i = 0; i < m->n; i++)
		if (m->items[i].duty == duty && m->items[i].headline)
			return m->items[i].headline;
	return NULL;
}

static void say_success(const struct status_model *m, struct buf *out)
{
	const char *told = headline(m, DUTY_DONE);
	_cleanup_buf_ struct buf attention = BUF_INIT(2 * LIMIT_STATUS_MESSAGE);

	say_attention(m, &attention);
	if (!told || attention.len)
		(void)buf_printf(out, "%s%s%s.%s", str_empty(m->sequence) ? "" : "Sequence ", m->sequence,
				 str_empty(m->sequence) ? "Settings applied" : " applied", buf_str(&attention));
	if (told)
		(void)buf_printf(out, "%s%s", attention.len ? "\n" : "", told);
}

static void say_error(const struct status_model *m, struct buf *out)
{
	for (size_t i = 0; i < m->n; i++)
		if (m->items[i].duty == DUTY_FAILED &&
		    buf_printf(out, "%s%s", out->len ? "\n" : "",
			       m->items[i].headline ? m->items[i].headline : m->items[i].message) < 0)
			return;
}

static void say_transitioning(const struct status_model *m, struct buf *out)
{
	for (size_t i = 0; i < m->n; i++)
		if (m->items[i].duty == DUTY_OPEN && !str_empty(m->items[i].message)) {
			(void)buf_printf(out, "%s%s%s", m->items[i].headline ? "" : m->items[i].name,
					 m->items[i].headline ? "" : ": ",
					 m->items[i].headline ? m->items[i].headline : m->items[i].message);
			return;
		}
}

static int code_of(const struct status_model *m)
{
	for (size_t i = 0; i < m->n; i++)
		if (m->items[i].duty == DUTY_FAILED && m->items[i].code != CODE_NONE)
			return m->items[i].code;
	return CODE_NONE;
}

void status_round_end(struct status_model *m)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_STATUS_FILE);
	enum status_level now = verdict(m);

	m->top = latch(m->top, now);
	if (m->overflow || m->n == 0)
		return;
	if (m->top == STATUS_SUCCESS)
		say_success(m, &text);
	else if (m->top == STATUS_ERROR)
		say_error(m, &text);
	else
		say_transitioning(m, &text);
	m->code = m->top == STATUS_ERROR ? code_of(m) : CODE_NONE;
	/* A latched error whose cause is gone, and a transition nobody explains, keep their words. */
	if (text.len && str_set(&m->message, text.data) < 0)
		m->overflow = true;
}

enum status_level status_top(const struct status_model *m)
{
	return m->top;
}

bool status_terminal(const struct status_model *m)
{
	return m->top == STATUS_SUCCESS || m->top == STATUS_ERROR;
}

const char *status_top_message(const struct status_model *m)
{
	return m->message ? m->message : "";
}

int status_top_code(const struct status_model *m)
{
	return m->code;
}

/* ---- the document (extension-contract.md 4.1): every formattedMessage present, or the agent chokes on it ---- */

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
static const struct jd_type level_type = { .kind = JD_CHOICE, .names = level_names };

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

static bool is_certificate(const struct item *it)
{
	return str_starts(it->name, CERTIFICATES);
}

/* Of many certificates the healthy ones are one line. */
static bool summed_up(const struct item *it, size_t certificates)
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
		const struct item *it = &m->items[i];

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
