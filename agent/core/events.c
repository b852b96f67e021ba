/* The Scheduled Events document: its table, and what texts in it mean. */
#include "agent/core/events.h"

#include "agent/base/limits.h"
#include "agent/base/macros.h"
#include "agent/base/str.h"
#include "agent/codec/timefmt.h"

static const char *const status_names[] = { "Scheduled", "Started" };
static const char *const type_names[] = { "Freeze", "Reboot", "Redeploy", "Preempt", "Terminate" };

static const struct jd_type id_type = { .kind = JD_TEXT, .min = 1, .max = LIMIT_EVENT_TEXT };
static const struct jd_type text_type = { .kind = JD_TEXT, .max = LIMIT_EVENT_TEXT };
static const struct jd_type description_type = { .kind = JD_TEXT, .max = LIMIT_EVENT_DESCRIPTION };
static const struct jd_type integer_type = { .kind = JD_INTEGER, .lenient = true };
static const struct jd_type resources_type = { .kind = JD_LIST, .element = &text_type, .max = LIMIT_EVENT_RESOURCES };

/* clang-format off */
static const struct jd_field event_fields[] = {
	{ "EventId",           &id_type,          offsetof(struct event, id),               JD_REQUIRED },
	{ "EventType",         &id_type,          offsetof(struct event, type),             JD_REQUIRED },
	{ "EventStatus",       &id_type,          offsetof(struct event, status_text),      JD_REQUIRED },
	{ "ResourceType",      &text_type,        offsetof(struct event, resource_type) },
	{ "Resources",         &resources_type,   offsetof(struct event, resources) },
	{ "NotBefore",         &text_type,        offsetof(struct event, not_before_text) },
	{ "Description",       &description_type, offsetof(struct event, description) },
	{ "EventSource",       &text_type,        offsetof(struct event, source) },
	{ "DurationInSeconds", &integer_type,     offsetof(struct event, duration_seconds), .default_integer = -1 },
	{},
};
static const struct jd_type event_object = { .kind = JD_OBJECT, .fields = event_fields, .size = sizeof(struct event) };
static const struct jd_type events_list = { .kind = JD_LIST, .element = &event_object, .max = LIMIT_EVENTS };

/* Without "Events" the document would say that every event is over: it is required. */
static const struct jd_field document_fields[] = {
	{ "DocumentIncarnation", &integer_type, offsetof(struct events_document, incarnation), JD_REQUIRED },
	{ "Events",              &events_list,  offsetof(struct events_document, events),      JD_REQUIRED },
	{},
};
static const struct jd_type document_type = { .kind = JD_OBJECT, .fields = document_fields,
					      .size = sizeof(struct events_document) };
/* clang-format on */

static enum event_status status_of(const char *text)
{
	for (size_t i = 0; i < ARRAY_SIZE(status_names); i++)
		if (str_equal_nocase(text, status_names[i]))
			return (enum event_status)i;
	return EVENT_STATUS_OTHER;
}

int events_parse(const char *text, size_t len, struct events_document *ret, struct error *err)
{
	struct events_document doc = {};
	int r;

	r = jd_decode_document(text, len, "scheduled events", LIMIT_EVENTS_DOCUMENT, &document_type, &doc, err);
	if (r < 0)
		return r;

	for (size_t i = 0; i < doc.events.n; i++) {
		struct event *e = &((struct event *)doc.events.items)[i];

		e->status = (int)status_of(e->status_text);
		/* Blank once it has started. A time that nobody can read must not hide the event: it is due now. */
		if (str_empty(e->not_before_text) || timefmt_parse(e->not_before_text, &e->not_before, NULL) < 0)
			e->not_before = 0;
	}
	*ret = doc;
	return 0;
}

void events_done(struct events_document *doc)
{
	jd_free(&document_type, doc);
}

enum event_type event_type_of(const char *type)
{
	for (size_t i = 0; i < ARRAY_SIZE(type_names); i++)
		if (str_equal_nocase(type, type_names[i]))
			return (enum event_type)i;
	return EVENT_OTHER;
}

static bool same_name(const char *resource, const char *self)
{
	return str_equal_nocase(resource, self) || (*resource == '_' && str_equal_nocase(resource + 1, self));
}

bool event_names(const struct event *e, const char *self, bool *ret_first)
{
	char *const *names = e->resources.items;

	if (str_empty(self))
		return false;
	for (size_t i = 0; i < e->resources.n; i++)
		if (same_name(names[i], self)) {
			if (ret_first)
				*ret_first = i == 0;
			return true;
		}
	return false;
}
