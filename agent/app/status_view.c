/* One line for the deployment, one for each component. */
#include "agent/app/status_view.h"

#include <string.h>

#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/json.h"

struct message {
	char *text;
};

struct item {
	char *name, *level;
	struct message message;
};

struct body {
	char *top;
	struct message message;
	struct jd_list items; /* of struct item */
};

struct entry {
	struct body body;
};

struct view {
	char *version, *sequence, *owner, *owner_version;
	struct jd_list beside; /* of char *: what else of EvenKeel is installed */
	bool serving;
	struct jd_list entries; /* of struct entry, one */
};

static const struct jd_type text = { .kind = JD_TEXT };
static const struct jd_type flag = { .kind = JD_BOOLEAN };

/* clang-format off */
static const struct jd_field message_fields[] = {
	{ "message", &text, offsetof(struct message, text), 0 },
	{ NULL },
};
static const struct jd_type message_type = { .kind = JD_OBJECT, .fields = message_fields, .size = sizeof(struct message) };

static const struct jd_field item_fields[] = {
	{ "name",             &text,         offsetof(struct item, name),    0 },
	{ "status",           &text,         offsetof(struct item, level),   0 },
	{ "formattedMessage", &message_type, offsetof(struct item, message), 0 },
	{ NULL },
};
static const struct jd_type item_type = { .kind = JD_OBJECT, .fields = item_fields, .size = sizeof(struct item) };
static const struct jd_type items_type = { .kind = JD_LIST, .max = 1000, .element = &item_type };

static const struct jd_field body_fields[] = {
	{ "status",           &text,         offsetof(struct body, top),     0 },
	{ "formattedMessage", &message_type, offsetof(struct body, message), 0 },
	{ "substatus",        &items_type,   offsetof(struct body, items),   0 },
	{ NULL },
};
static const struct jd_type body_type = { .kind = JD_OBJECT, .fields = body_fields, .size = sizeof(struct body) };

static const struct jd_field entry_fields[] = {
	{ "status", &body_type, offsetof(struct entry, body), JD_REQUIRED },
	{ NULL },
};
static const struct jd_type entry_type = { .kind = JD_OBJECT, .fields = entry_fields, .size = sizeof(struct entry) };
static const struct jd_type entries_type = { .kind = JD_LIST, .min = 1, .max = 1, .element = &entry_type };

static const struct jd_type texts = { .kind = JD_LIST, .max = 10, .element = &text };

static const struct jd_field view_fields[] = {
	{ "version",      &text,         offsetof(struct view, version),       0 },
	{ "sequence",     &text,         offsetof(struct view, sequence),      0 },
	{ "owner",        &text,         offsetof(struct view, owner),         0 },
	{ "ownerVersion", &text,         offsetof(struct view, owner_version), 0 },
	{ "beside",       &texts,        offsetof(struct view, beside),        0 },
	{ "serving",      &flag,         offsetof(struct view, serving),       0 },
	{ "status",       &entries_type, offsetof(struct view, entries),       JD_REQUIRED },
	{ NULL },
};
static const struct jd_type view_type = { .kind = JD_OBJECT, .fields = view_fields, .size = sizeof(struct view) };
/* clang-format on */

static void view_done(struct view *v)
{
	jd_free(&view_type, v);
}

/* The first line of a message, cut at a character where the terminal ends. */
static void print_line(FILE *out, unsigned columns, size_t indent, const char *message)
{
	const char *line = message ? message : "";
	size_t len = strcspn(line, "\n");

	if (columns > indent)
		len = utf8_cut(line, len, columns - indent);
	fprintf(out, "%.*s\n", (int)len, line);
}

/* Said only where it is a question: of two installations, one has the service. */
static void print_owner(FILE *out, const struct view *v)
{
	char *const *beside = v->beside.items;

	if (v->beside.n == 0 || !v->owner || str_equal(v->owner, "none"))
		return;
	fprintf(out, "%-28s %-14s the service is that of the %s", "installed", v->owner, v->owner);
	if (!str_empty(v->owner_version))
		fprintf(out, " (version %s)", v->owner_version);
	for (size_t i = 0; i < v->beside.n; i++)
		fprintf(out, "%s %s", i == 0 ? "; also installed: the" : ", the", beside[i]);
	fputc('\n', out);
}

int status_view_print(const struct buf *reply, unsigned columns, FILE *out, struct error *err)
{
	_cleanup_(view_done) struct view v = { 0 };
	const struct entry *entry;
	const struct item *items;
	int r;

	r = jd_decode_document(buf_str(reply), reply->len, "status", LIMIT_API_REPLY, &view_type, &v, err);
	if (r < 0)
		return r;
	entry = v.entries.items;
	items = entry->body.items.items;
	fprintf(out, "EvenKeel %s, sequence %s, %s\n", v.version ? v.version : "?",
		str_empty(v.sequence) ? "none" : v.sequence, v.serving ? "serving" : "not serving");
	print_owner(out, &v);
	fprintf(out, "%-28s %-14s ", "deployment", entry->body.top ? entry->body.top : "?");
	print_line(out, columns, 44, entry->body.message.text);
	for (size_t i = 0; i < entry->body.items.n; i++) {
		fprintf(out, "%-28s %-14s ", items[i].name ? items[i].name : "?", items[i].level ? items[i].level : "?");
		print_line(out, columns, 44, items[i].message.text);
	}
	return 0;
}
