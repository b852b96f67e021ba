/* #cloud-config-archive: the part of YAML that such lists are written in, and JSON. */
#include "agent/core/userdata_archive.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/json.h"
#include "agent/core/userdata_yaml.h"

void userdata_archive_done(struct userdata_archive *a)
{
	for (size_t i = 0; i < a->n; i++) {
		free(a->entries[i].type);
		free(a->entries[i].filename);
		free(a->entries[i].content);
	}
	free(a->entries);
	*a = (struct userdata_archive){ 0 };
}

/* ---- entries ---- */

static int set(struct yaml *y, char **to, const struct buf *value, size_t *ret_len)
{
	if (*to)
		return yaml_refuse(y, -EBADMSG, "the member is there twice");
	*to = malloc(value->len + 1);
	if (!*to)
		return error_oom(y->err);
	memcpy(*to, buf_str(value), value->len + 1);
	if (ret_len)
		*ret_len = value->len;
	return 0;
}

/* "key:" and a blank or the line's end. 0: this is no key. */
static size_t key_length(const struct yaml *y)
{
	size_t n = 0;

	while (y->at + n < y->len && !strchr(": \t\r\n#\"'|>[]{}&*!%@`,", y->text[y->at + n]))
		n++;
	return n && y->at + n < y->len && y->text[y->at + n] == ':' &&
			       (y->at + n + 1 >= y->len || strchr(" \t\r\n", y->text[y->at + n + 1]))
		       ? n
		       : 0;
}

static int read_member(struct yaml *y, size_t parent, struct userdata_archive_entry *e)
{
	_cleanup_buf_ struct buf value = BUF_SECRET_INIT(LIMIT_GUNZIP_DEFAULT);
	size_t n = key_length(y);
	_cleanup_free_ char *key = n ? strndup(y->text + y->at, n) : NULL;
	int k;

	if (!n)
		return yaml_refuse(y, -EBADMSG, "expected a member (\"content:\", \"type:\", \"filename:\")");
	if (!key)
		return error_oom(y->err);
	y->at += n + 1;
	while (yaml_peek(y) == ' ' || yaml_peek(y) == '\t')
		y->at++;
	k = yaml_read_value(y, parent, str_equal(key, "content") || str_equal(key, "type"), &value);
	if (k < 0)
		return k;
	if (str_equal(key, "content"))
		return set(y, &e->content, &value, &e->len);
	if (str_equal(key, "type"))
		return set(y, &e->type, &value, NULL);
	return str_equal(key, "filename") ? set(y, &e->filename, &value, NULL) : 0;
}

static int add(struct yaml *y, struct userdata_archive *a, struct userdata_archive_entry **ret)
{
	struct userdata_archive_entry *grown;

	if (a->n >= LIMIT_USER_DATA_PARTS)
		return error_set(y->err, ERROR_USER, -E2BIG, "more than %d parts", LIMIT_USER_DATA_PARTS);
	grown = reallocarray(a->entries, a->n + 1, sizeof(*grown));
	if (!grown)
		return error_oom(y->err);
	a->entries = grown;
	grown[a->n] = (struct userdata_archive_entry){ NULL };
	*ret = &grown[a->n++];
	return 0;
}

/* After the "-". */
static int read_entry(struct yaml *y, size_t dash, struct userdata_archive *to)
{
	struct userdata_archive_entry *e;
	size_t parent;
	int k = add(y, to, &e);

	if (k < 0)
		return k;
	while (yaml_peek(y) == ' ')
		y->at++;
	if (yaml_at_break(y) || yaml_peek(y) == '#')
		yaml_skip_nothing(y);
	parent = yaml_column(y);
	if (y->at >= y->len || parent <= dash)
		return yaml_refuse(y, -EBADMSG, "there is nothing after the -");
	if (!key_length(y)) {
		_cleanup_buf_ struct buf value = BUF_SECRET_INIT(LIMIT_GUNZIP_DEFAULT);

		k = yaml_read_value(y, dash, true, &value);
		return k < 0 ? k : set(y, &e->content, &value, &e->len);
	}
	do {
		k = read_member(y, parent, e);
		if (k < 0)
			return k;
		yaml_skip_nothing(y);
	} while (y->at < y->len && yaml_column(y) == parent);
	return 0;
}

static bool starts(const struct yaml *y, const char *word)
{
	return y->len - y->at >= strlen(word) && memcmp(y->text + y->at, word, strlen(word)) == 0;
}

static int read_list(struct yaml *y, struct userdata_archive *to)
{
	size_t list = yaml_column(y);
	int k = 0;

	while (k >= 0 && y->at < y->len && !(yaml_column(y) == 0 && starts(y, "..."))) {
		if (yaml_column(y) != list || yaml_peek(y) != '-' ||
		    !(y->at + 1 >= y->len || strchr(" \r\n", y->text[y->at + 1])))
			return yaml_refuse(y, -EBADMSG, "expected a list, each entry after a \"- \" of its own");
		y->at++;
		k = read_entry(y, list, to);
		if (k >= 0)
			yaml_skip_nothing(y);
	}
	return k;
}

/* ---- JSON ---- */

static const struct jd_type text_type = { .kind = JD_TEXT, .max = LIMIT_GUNZIP_DEFAULT };
/* clang-format off */
static const struct jd_field entry_fields[] = {
	{ "type",     &text_type, offsetof(struct userdata_archive_entry, type) },
	{ "filename", &text_type, offsetof(struct userdata_archive_entry, filename) },
	{ "content",  &text_type, offsetof(struct userdata_archive_entry, content) },
	{ NULL },
};
/* clang-format on */
static const struct jd_type entry_type = { .kind = JD_OBJECT,
					   .size = sizeof(struct userdata_archive_entry),
					   .fields = entry_fields,
					   .short_member = "content" };
static const struct jd_type list_type = { .kind = JD_LIST, .max = LIMIT_USER_DATA_PARTS, .element = &entry_type };

static int read_json(struct yaml *y, struct userdata_archive *to)
{
	struct jd_list list = { 0 };
	int k = jd_decode_document(y->text + y->at, y->len - y->at, "the list", LIMIT_GUNZIP_DEFAULT, &list_type, &list,
				   y->err);

	if (k < 0)
		return k;
	to->entries = list.items;
	to->n = list.n;
	for (size_t i = 0; i < list.n; i++)
		to->entries[i].len = to->entries[i].content ? strlen(to->entries[i].content) : 0;
	return 0;
}

/* What YAML does not allow, and what else it takes for the end of a line. */
static int check_text(struct yaml *y)
{
	static const char *const breaks[] = { "\xc2\x85", "\xe2\x80\xa8", "\xe2\x80\xa9" };

	if (!utf8_valid(y->text, y->len))
		return error_set(y->err, ERROR_USER, -EBADMSG, "line 1: it is no text");
	for (y->at = 0; y->at < y->len; y->at++) {
		unsigned char c = (unsigned char)y->text[y->at];

		if ((c < ' ' && !strchr("\t\n\r", c)) || !c || c == 0x7f)
			return yaml_refuse(y, -EBADMSG, "a control character");
		if (c == '\r' && (y->at + 1 >= y->len || y->text[y->at + 1] != '\n'))
			return yaml_not_read(y, "a carriage return alone");
		for (size_t i = 0; c >= 0x80 && i < ARRAY_SIZE(breaks); i++)
			if (y->len - y->at >= strlen(breaks[i]) &&
			    memcmp(y->text + y->at, breaks[i], strlen(breaks[i])) == 0)
				return yaml_not_read(y, "a line's end of another kind");
	}
	y->at = 0;
	return 0;
}

int userdata_archive_read(const char *text, size_t len, struct userdata_archive *ret, struct error *err)
{
	struct yaml y = { .text = text, .len = len, .err = err };
	struct userdata_archive a = { 0 };
	int k;

	k = check_text(&y);
	if (k < 0)
		return k;
	yaml_skip_nothing(&y);
	if (yaml_column(&y) == 0 && starts(&y, "---")) {
		y.at += 3;
		k = yaml_end_line(&y);
		if (k < 0)
			return k;
		yaml_skip_nothing(&y);
	}
	k = yaml_peek(&y) == '[' ? read_json(&y, &a) : read_list(&y, &a);
	if (k < 0) {
		userdata_archive_done(&a);
		return k;
	}
	*ret = a;
	return 0;
}
