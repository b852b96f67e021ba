/* The status model: components, a round at a time, into a top level with a latch, and what it says. */
#include "agent/core/status_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/core/exit_codes.h"

const char *const status_level_names[] = { "transitioning", "error", "success", "warning", NULL };

const char *status_level_name(enum status_level l)
{
	return status_level_names[l];
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
	struct status_item *p;

	if (m->n < m->cap)
		return 0;
	if (m->n >= LIMIT_STATUS_COMPONENTS)
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
	struct status_item it = { .level = c->level, .duty = c->duty, .code = c->code, .has_output = c->has_output };
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
	const struct status_item *first = NULL;
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
