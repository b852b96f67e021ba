/* Key refresh: its durable records, of a certificate or secret and of since when a goal asks for them. */
#include <stdlib.h>

#include "agent/base/limits.h"
#include "agent/codec/json.h"
#include "agent/codec/json_record.h"
#include "agent/core/key_plan.h"

#define RECORD_MAX (64UL * 1024)

static const struct jd_type text_type = { .kind = JD_TEXT, .max = LIMIT_URI };
static const struct jd_type time_type = { .kind = JD_INTEGER, .max = INT64_MAX };
static const struct jd_type days_type = { .kind = JD_INTEGER, .max = 3650 };
static const struct jd_type flag_type = { .kind = JD_BOOLEAN };
static const struct jd_type texts_type = { .kind = JD_LIST, .max = KEY_OPENED_MAX, .element = &text_type };
static const struct jd_type activation_type = {
	.kind = JD_OBJECT, .fields = key_activation_fields, .size = sizeof(struct key_activation)
};

/* clang-format off */
static const struct jd_field record_fields[] = {
	{ "url",           &text_type, offsetof(struct key_record, url),             0 },
	{ "shape",         &text_type, offsetof(struct key_record, shape),           0 },
	{ "salt",          &text_type, offsetof(struct key_record, salt),            0 },
	{ "version",       &text_type, offsetof(struct key_record, version),         0 },
	{ "thumbprint",    &text_type, offsetof(struct key_record, thumbprint),      0 },
	{ "previous",      &text_type, offsetof(struct key_record, previous),        0 },
	{ "identity",      &text_type, offsetof(struct key_record, identity),        0 },
	{ "createdUsec",   &time_type, offsetof(struct key_record, created_usec),    0 },
	{ "notBeforeUsec", &time_type, offsetof(struct key_record, not_before_usec), 0 },
	{ "notAfterUsec",  &time_type, offsetof(struct key_record, not_after_usec),  0 },
	{ "installedUsec", &time_type, offsetof(struct key_record, installed_usec),  0 },
	{ "incomplete",    &flag_type, offsetof(struct key_record, incomplete),      0 },
	{ "error",         &text_type, offsetof(struct key_record, error),           0 },
	{ "nextUsec",      &time_type, offsetof(struct key_record, next_usec),       0 },
	{ "warnedDays",    &days_type, offsetof(struct key_record, warned_days),     .default_integer = -1 },
	{ "set",           &text_type, offsetof(struct key_record, set) },
	{ "unreachable",   &text_type, offsetof(struct key_record, unreachable) },
	{ "opened",        &texts_type, offsetof(struct key_record, opened),         JD_OMIT_EMPTY },
	{ "directory",     &text_type, offsetof(struct key_record, directory) },
	{ "files",         &texts_type, offsetof(struct key_record, files),          JD_OMIT_EMPTY },
	{ "former",        &texts_type, offsetof(struct key_record, former),         JD_OMIT_EMPTY },
	{ "activation",    &activation_type, offsetof(struct key_record, activation) },
	{},
};
static const struct jd_type record_type = { .kind = JD_OBJECT, .fields = record_fields, .size = sizeof(struct key_record) };

static const struct jd_field goal_fields[] = {
	{ "key",       &text_type, offsetof(struct key_goal, key),        JD_REQUIRED },
	{ "sinceUsec", &time_type, offsetof(struct key_goal, since_usec), JD_REQUIRED },
	{},
};
static const struct jd_type goal_type = { .kind = JD_OBJECT, .fields = goal_fields, .size = sizeof(struct key_goal) };
/* clang-format on */

int key_record_encode(const struct key_record *r, struct buf *out)
{
	return jd_encode_record(&record_type, KEY_RECORD_FORMAT, r, out);
}

int key_record_decode(const char *text, size_t len, struct key_record *ret, struct error *err)
{
	return jd_decode_record(text, len, "the certificate's record", RECORD_MAX, &record_type, KEY_RECORD_FORMAT, ret, err);
}

void key_record_done(struct key_record *r)
{
	jd_free(&record_type, r);
}

int key_goal_encode(const struct key_goal *g, struct buf *out)
{
	return jd_encode_record(&goal_type, KEY_RECORD_FORMAT, g, out);
}

int key_goal_decode(const char *text, size_t len, struct key_goal *ret, struct error *err)
{
	return jd_decode_record(text, len, "key-refresh.goal", RECORD_MAX, &goal_type, KEY_RECORD_FORMAT, ret, err);
}

void key_goal_done(struct key_goal *g)
{
	jd_free(&goal_type, g);
}

usec_t key_goal_deadline(const struct key_goal *g, usec_t timeout, usec_t now_boot, usec_t now_wall)
{
	usec_t gone = usec_sub(now_wall, (usec_t)g->since_usec);

	return usec_add(now_boot, usec_sub(timeout, gone));
}
