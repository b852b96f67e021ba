/* Queues of notices and known troubles, as they are kept. */
#include "agent/app/notice_queues.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/json_record.h"

#define FORMAT	     1 /* agent/codec/json_record.h */
#define QUEUES_MAX   (WEBHOOKS_MAX * LIMIT_NOTICES * LIMIT_NOTICE)
#define TROUBLES_MAX 256

/* ---- the file ---- */

static const struct jd_type q_text = { .kind = JD_TEXT };
static const struct jd_type q_number = { .kind = JD_INTEGER };
static const struct jd_type q_notices = { .kind = JD_LIST, .max = LIMIT_NOTICES, .element = &notice_type };

/* clang-format off */
static const struct jd_field queue_fields[] = {
	{ "name",    &q_text,    offsetof(struct queue, name),    JD_REQUIRED },
	{ "notices", &q_notices, offsetof(struct queue, notices), 0 },
	{ "lost",    &q_number,  offsetof(struct queue, lost),    0 },
	{ NULL },
};
static const struct jd_type queue_type = { .kind = JD_OBJECT, .fields = queue_fields, .size = sizeof(struct queue) };
static const struct jd_type q_queues = { .kind = JD_LIST, .max = WEBHOOKS_MAX, .element = &queue_type };

static const struct jd_field trouble_fields[] = {
	{ "component", &q_text, offsetof(struct trouble, component), JD_REQUIRED },
	{ NULL },
};
static const struct jd_type trouble_type = { .kind = JD_OBJECT, .fields = trouble_fields, .size = sizeof(struct trouble) };
static const struct jd_type q_troubles = { .kind = JD_LIST, .max = TROUBLES_MAX, .element = &trouble_type };

static const struct jd_field queues_fields[] = {
	{ "number", &q_number, offsetof(struct queues, number), 0 },
	{ "queues", &q_queues, offsetof(struct queues, queues), 0 },
	{ "troubles", &q_troubles, offsetof(struct queues, troubles), 0 },
	{ NULL },
};
/* clang-format on */
static const struct jd_type queues_type = { .kind = JD_OBJECT, .fields = queues_fields, .size = sizeof(struct queues) };

int queues_load(const char *path, struct queues *ret, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT(QUEUES_MAX);
	int r = fs_read_nofollow(path, QUEUES_MAX, &text, err);

	return r < 0 ? r : jd_decode_record(buf_str(&text), text.len, path, QUEUES_MAX, &queues_type, FORMAT, ret, err);
}

int queues_save(const char *path, const struct queues *q, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT(QUEUES_MAX);
	int r = jd_encode_record(&queues_type, FORMAT, q, &text);

	return r < 0 ? error_oom(err) : fs_write(path, text.data, text.len, 0600, FS_NO_SYNC, err);
}

void queues_done(struct queues *q)
{
	jd_free(&queues_type, q);
}

/* ---- notices ---- */

int queues_take(struct queues *from, const char *name, struct queue *ret)
{
	struct queue *q = from->queues.items;

	for (size_t i = 0; i < from->queues.n; i++)
		if (str_equal(q[i].name, name)) {
			*ret = q[i];
			q[i] = (struct queue){ 0 };
			return 0;
		}
	*ret = (struct queue){ 0 };
	return str_set(&ret->name, name);
}

void queue_drop_first(struct queue *q)
{
	struct notice *all = q->notices.items;

	jd_free(&notice_type, &all[0]);
	memmove(all, all + 1, (q->notices.n - 1) * sizeof(*all));
	q->notices.n--;
}

static int copy_notice(const struct notice *from, struct notice *to)
{
	*to = (struct notice){
		.number = from->number, .kind = from->kind, .problem = from->problem, .wall_usec = from->wall_usec
	};
	if (str_set(&to->subject, from->subject) < 0 || str_set(&to->message, from->message) < 0 ||
	    str_set(&to->event_type, from->event_type) < 0) {
		jd_free(&notice_type, to);
		return -ENOMEM;
	}
	return 0;
}

int queue_add(struct queue *q, const struct notice *n)
{
	struct notice copy, *all;

	if (copy_notice(n, &copy) < 0)
		return -ENOMEM;
	if (q->notices.n == LIMIT_NOTICES) {
		queue_drop_first(q);
		q->lost++;
	}
	all = reallocarray(q->notices.items, q->notices.n + 1, sizeof(*all));
	if (!all) {
		jd_free(&notice_type, &copy);
		return -ENOMEM;
	}
	q->notices.items = all;
	all[q->notices.n++] = copy;
	return 0;
}

/* ---- troubles ---- */

struct trouble *troubles_find(const struct queues *q, const char *component)
{
	struct trouble *t = q->troubles.items;

	for (size_t i = 0; i < q->troubles.n; i++)
		if (str_equal(t[i].component, component))
			return &t[i];
	return NULL;
}

void troubles_forget(struct queues *q, struct trouble *t)
{
	struct trouble *all = q->troubles.items;
	size_t at = (size_t)(t - all);

	jd_free(&trouble_type, t);
	memmove(t, t + 1, (q->troubles.n - at - 1) * sizeof(*t));
	q->troubles.n--;
}

int troubles_add(struct queues *q, const char *component)
{
	struct jd_list *l = &q->troubles;
	struct trouble *all = l->n < TROUBLES_MAX ? reallocarray(l->items, l->n + 1, sizeof(*all)) : NULL;

	if (!all)
		return -ENOMEM;
	l->items = all;
	all[l->n] = (struct trouble){ .seen = true };
	if (str_set(&all[l->n].component, component) < 0)
		return -ENOMEM;
	l->n++;
	return 0;
}
