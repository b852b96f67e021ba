/* User data taken apart: gzip, MIME, archives, includes; what each part is for us. */
#include "agent/core/userdata_parts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/base64.h"
#include "agent/codec/gzip.h"
#include "agent/core/userdata_archive.h"
#include "agent/core/userdata_detect.h"
#include "agent/core/userdata_mime.h"

#define NAME_MAX_BYTES 96
#define BASE64_MAX(n)  (((n) + 2) / 3 * 4 + 1)

/* ---- the document ---- */

static const char *const kind_names[] = {
	"shellscript", "boothook", "include", "settings", "cloudConfig", "other", NULL
};
_Static_assert(ARRAY_SIZE(kind_names) == _USERDATA_KIND_MAX + 1, "a name for each kind");

static const struct jd_type text_type = { .kind = JD_TEXT, .max = 1024 };
static const struct jd_type content_type = { .kind = JD_TEXT, .max = BASE64_MAX(LIMIT_USER_DATA_EXPANDED) };
static const struct jd_type kind_type = { .kind = JD_CHOICE, .names = kind_names };
static const struct jd_type number_type = { .kind = JD_INTEGER, .max = INT64_MAX };

/* clang-format off */
static const struct jd_field item_fields[] = {
	{ "type",    &text_type,    offsetof(struct userdata_item, type),    0 },
	{ "name",    &text_type,    offsetof(struct userdata_item, name),    0 },
	{ "kind",    &kind_type,    offsetof(struct userdata_item, kind),    0 },
	{ "size",    &number_type,  offsetof(struct userdata_item, size),    0 },
	{ "content", &content_type, offsetof(struct userdata_item, content), 0 },
	{ "problem", &text_type,    offsetof(struct userdata_item, problem), 0 },
	{ "depth",   &number_type,  offsetof(struct userdata_item, depth),   JD_OMIT_EMPTY },
	{ NULL },
};
static const struct jd_type item_type = { .kind = JD_OBJECT, .fields = item_fields, .size = sizeof(struct userdata_item) };
static const struct jd_type items_type = { .kind = JD_LIST, .element = &item_type, .max = LIMIT_USER_DATA_PARTS };
static const struct jd_field parts_fields[] = {
	{ "sha256",  &text_type,    offsetof(struct userdata_parts, sha256),  0 },
	{ "content", &content_type, offsetof(struct userdata_parts, content), 0 },
	{ "parts",   &items_type,   offsetof(struct userdata_parts, items),   0 },
	{ NULL },
};
/* clang-format on */
const struct jd_type userdata_parts_type = { .kind = JD_OBJECT,
					     .fields = parts_fields,
					     .size = sizeof(struct userdata_parts) };

void userdata_parts_done(struct userdata_parts *p)
{
	jd_free(&userdata_parts_type, p);
}

/* ---- one part ---- */

struct maker {
	struct userdata_parts parts;
	size_t total;
	int64_t depth;
	struct error *err;
};

/* What cloud-init takes for gzip (user_data.py, DECOMP_TYPES). */
static bool is_gzip_type(const char *type)
{
	static const char *const types[] = { "application/gzip",	 "application/gzip-compressed",
					     "application/gzipped",	 "application/x-compress",
					     "application/x-compressed", "application/x-gunzip",
					     "application/x-gzip",	 "application/x-gzip-compressed" };

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (str_equal(type, types[i]))
			return true;
	return false;
}

static int kind_of(const char *type)
{
	static const struct {
		const char *type;
		enum userdata_kind kind;
	} kinds[] = {
		{ "text/x-shellscript", USERDATA_KIND_SHELLSCRIPT },
		{ "text/x-shellscript-per-boot", USERDATA_KIND_SHELLSCRIPT },
		{ "text/x-shellscript-per-instance", USERDATA_KIND_SHELLSCRIPT },
		{ "text/cloud-boothook", USERDATA_KIND_BOOTHOOK },
		{ "text/x-include-url", USERDATA_KIND_INCLUDE },
		{ "text/x-include-once-url", USERDATA_KIND_INCLUDE },
		{ USERDATA_SETTINGS_TYPE, USERDATA_KIND_SETTINGS },
		{ "text/cloud-config", USERDATA_KIND_CLOUD_CONFIG },
		{ "text/cloud-config-jsonp", USERDATA_KIND_CLOUD_CONFIG },
		{ "text/cloud-config-archive", USERDATA_KIND_CLOUD_CONFIG },
	};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (str_equal(type, kinds[i].type))
			return (int)kinds[i].kind;
	return USERDATA_KIND_OTHER;
}

/* What others have named, as it is told and recorded: never a path, and not the thing that decides. NULL: out of memory. */
static char *told(const char *text)
{
	char *clean = utf8_clean(text, strlen(text));

	if (!clean)
		return NULL;
	clean[utf8_cut(clean, strlen(clean), NAME_MAX_BYTES)] = '\0';
	for (char *p = clean; *p; p++)
		if (*p == '\n' || *p == '\t')
			*p = ' ';
	return clean;
}

static char *name_of(const char *filename, size_t number)
{
	return filename && *filename ? told(filename) : str_format("part-%03zu", number);
}

/* What remains of the bytes is the program that is run; NULL: it is fit to be. */
static const char *script_of(int kind, const char **text, size_t *len)
{
	static const char hook[] = "#cloud-boothook";
	size_t n = userdata_blanks(*text, *len);

	*text += n;
	*len -= n;
	if (kind == USERDATA_KIND_BOOTHOOK && *len >= sizeof(hook) - 1 &&
	    strncasecmp(*text, hook, sizeof(hook) - 1) == 0) {
		*text += sizeof(hook) - 1;
		*len -= sizeof(hook) - 1;
		n = userdata_blanks(*text, *len);
		*text += n;
		*len -= n;
	}
	return *len >= 2 && memcmp(*text, "#!", 2) == 0 ? NULL : "it has no #! line that names an interpreter";
}

static int keep_content(struct maker *m, struct userdata_item *item, const char *text, size_t len)
{
	_cleanup_buf_ struct buf encoded = BUF_SECRET_INIT(BASE64_MAX(LIMIT_USER_DATA_EXPANDED));

	m->total += len;
	if (m->total > LIMIT_USER_DATA_EXPANDED)
		return error_set(m->err, ERROR_USER, -E2BIG, "the parts are more than %lu KiB together",
				 LIMIT_USER_DATA_EXPANDED / 1024);
	if (base64_encode(text, len, &encoded) < 0 || str_set(&item->content, buf_str(&encoded)) < 0)
		return error_oom(m->err);
	return 0;
}

static int add(struct maker *m, const char *type, const char *filename, const char *text, size_t len,
	       const char *problem)
{
	struct userdata_item *grown, *item;
	int k = 0;

	if (m->parts.items.n >= LIMIT_USER_DATA_PARTS)
		return error_set(m->err, ERROR_USER, -E2BIG, "more than %d parts", LIMIT_USER_DATA_PARTS);
	grown = reallocarray(m->parts.items.items, m->parts.items.n + 1, sizeof(*grown));
	if (!grown)
		return error_oom(m->err);
	m->parts.items.items = grown;
	item = &grown[m->parts.items.n];
	*item = (struct userdata_item){
		.type = told(type), .kind = kind_of(type), .size = (int64_t)len, .depth = m->depth
	};
	item->name = name_of(filename, ++m->parts.items.n);
	if (item->kind == USERDATA_KIND_SHELLSCRIPT || item->kind == USERDATA_KIND_BOOTHOOK) {
		const char *unfit = script_of(item->kind, &text, &len);

		problem = problem ? problem : unfit;
	}
	/* Who serves a URL is not who writes user data. */
	if (item->kind == USERDATA_KIND_SETTINGS && m->depth)
		problem = "settings are not taken from an include";
	if (!item->type || !item->name || str_set(&item->problem, problem) < 0)
		return error_oom(m->err);
	if (!problem && item->kind <= USERDATA_KIND_SETTINGS)
		k = keep_content(m, item, text, len);
	return k;
}

/* ---- archives ---- */

static int add_entry(struct maker *m, const struct userdata_archive_entry *e)
{
	const char *type = e->type, *content = e->content ? e->content : "", *problem = NULL;

	if (str_empty(type)) {
		type = userdata_content_type(content, e->len);
		type = type ? type : "text/cloud-config";
	} else if (!strchr(type, '/')) {
		problem = "its type is none";
	}
	/* cloud-init looks into no entry once more. */
	if (kind_of(type) == USERDATA_KIND_INCLUDE)
		problem = "an include in an archive is not fetched, as under cloud-init";
	else if (str_equal(type, "text/cloud-config-archive"))
		problem = "an archive in an archive is not opened, as under cloud-init";
	return add(m, type, e->filename, content, e->len, problem);
}

static int add_archive(struct maker *m, const char *filename, const char *text, size_t len)
{
	struct userdata_archive a = { 0 };
	struct error e = ERROR_INIT;
	int k = userdata_archive_read(text, len, &a, &e);

	if (k == -ENOMEM)
		return error_oom(m->err);
	if (k < 0) {
		_cleanup_free_ char *why = str_format("the archive cannot be read: %s", e.msg);

		return why ? add(m, "text/cloud-config-archive", filename, "", len, why) : error_oom(m->err);
	}
	for (size_t i = 0; k >= 0 && i < a.n; i++)
		k = add_entry(m, &a.entries[i]);
	userdata_archive_done(&a);
	return k;
}

/* ---- from bytes to parts ---- */

/* cloud-init trusts a type, unless it is one that says nothing; then the first bytes decide. */
static const char *better_type(const char *type, const char *text, size_t len)
{
	const char *found = NULL;

	if (str_equal(type, "text/plain") || str_equal(type, "text/x-not-multipart") ||
	    str_equal(type, "text/x-shellscript"))
		found = userdata_content_type(text, len);
	return found ? found : type;
}

static int take(struct maker *m, const char *type, const char *filename, const char *text, size_t len)
{
	_cleanup_buf_ struct buf plain = BUF_SECRET_INIT(LIMIT_GUNZIP_DEFAULT);

	if (is_gzip_type(type) && !len) {
		type = "text/plain";
	} else if (is_gzip_type(type)) {
		int k = gzip_inflate(text, len, &plain, NULL);

		if (k == -ENOMEM)
			return error_oom(m->err);
		if (k < 0 || !utf8_valid(buf_str(&plain), plain.len))
			return add(m, type, filename, "", len,
				   k == -EFBIG ? "it inflates to more than 1 MiB"
				   : k < 0     ? "its gzip is damaged"
					       : "its gzip holds no text");
		text = buf_str(&plain);
		len = plain.len;
		type = "text/plain";
	}
	type = better_type(type, text, len);
	if (str_equal(type, "text/cloud-config-archive"))
		return add_archive(m, filename, text, len);
	return add(m, type, filename, text, len, NULL);
}

/* Python's email package spoils what is not ASCII and stands in a message as it is; cloud-init finds no type behind such a
 * blank then. */
static bool is_spoilt(const struct userdata_mime_part *part)
{
	size_t n = userdata_blanks(part->content, part->len);

	for (size_t i = 0; i < n && !part->encoded; i++)
		if ((unsigned char)part->content[i] >= 0x80)
			return true;
	return false;
}

static int on_mime_part(const struct userdata_mime_part *part, void *userdata)
{
	if (is_spoilt(part))
		return add(userdata, part->type, part->filename, part->content, part->len,
			   "it begins with a blank beyond ASCII");
	return take(userdata, part->type, part->filename, part->content, part->len);
}

static int take_whole(struct maker *m, const char *text, size_t len)
{
	_cleanup_buf_ struct buf plain = BUF_SECRET_INIT(LIMIT_GUNZIP_DEFAULT);

	if (gzip_detect(text, len)) {
		int k = gzip_inflate(text, len, &plain, NULL);

		if (k == -ENOMEM)
			return error_oom(m->err);
		if (k == -EFBIG)
			return error_set(m->err, ERROR_USER, -E2BIG, "the gzip inflates to more than %lu KiB",
					 LIMIT_GUNZIP_DEFAULT / 1024);
		if (k >= 0) {
			text = buf_str(&plain);
			len = plain.len;
		}
	}
	if (!userdata_is_mime(text, len))
		return take(m, "text/x-not-multipart", NULL, text, len);
	if (!utf8_valid(text, len))
		return error_set(m->err, ERROR_USER, -EBADMSG,
				 "the MIME message is not valid UTF-8; cloud-init refuses it, too");
	return userdata_mime_walk(text, len, on_mime_part, m, m->err);
}

int userdata_parts_make(const void *data, size_t len, const char *sha256, struct userdata_parts *ret, struct error *err)
{
	struct maker m = { .err = err };
	int k = take_whole(&m, data, len);

	if (k >= 0 && str_set(&m.parts.sha256, sha256) < 0)
		k = error_oom(err);
	if (k < 0) {
		userdata_parts_done(&m.parts);
		return k;
	}
	*ret = m.parts;
	return 0;
}

int userdata_item_content(const struct userdata_item *i, struct buf *out, struct error *err)
{
	return base64_decode(i->content ? i->content : "", i->content ? strlen(i->content) : 0, false, out, err);
}

/* ---- includes ---- */

/* One line of an include; NULL: no URL. As user_data.py's _do_include() reads it. */
static const char *url_of(char *line)
{
	static const char once[] = "#include-once", plain[] = "#include";
	char *end;

	if (strncasecmp(line, once, sizeof(once) - 1) == 0)
		line += sizeof(once) - 1;
	else if (strncasecmp(line, plain, sizeof(plain) - 1) == 0)
		line += sizeof(plain) - 1;
	line += userdata_blanks(line, strlen(line));
	if (*line == '#')
		return NULL;
	for (end = line + strlen(line); end > line && (end[-1] == ' ' || (end[-1] >= '\t' && end[-1] <= '\r')); end--)
		end[-1] = '\0';
	return *line ? line : NULL;
}

static bool is_http(const char *url)
{
	return (strncasecmp(url, "http://", 7) == 0 || strncasecmp(url, "https://", 8) == 0) && strlen(url) < LIMIT_URI;
}

int userdata_item_urls(const struct userdata_item *i, char ***ret, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_SECRET_INIT(LIMIT_USER_DATA_EXPANDED);
	_cleanup_strv_ char **urls = calloc(LIMIT_USER_DATA_INCLUDES + 1, sizeof(*urls));
	size_t n = 0;
	char *save = NULL;
	int k = urls ? userdata_item_content(i, &text, err) : error_oom(err);

	if (k < 0)
		return k;
	for (char *line = text.data ? strtok_r(text.data, "\r\n", &save) : NULL; line;
	     line = strtok_r(NULL, "\r\n", &save)) {
		const char *url = url_of(line);

		if (!url)
			continue;
		/* The text itself is not shown: what is no URL may be anything. */
		if (!is_http(url))
			return error_set(err, ERROR_USER, -EINVAL, "its URL %zu is neither http nor https", n + 1);
		if (n >= LIMIT_USER_DATA_INCLUDES)
			return error_set(err, ERROR_USER, -E2BIG, "more than %d URLs", LIMIT_USER_DATA_INCLUDES);
		urls[n] = strdup(url);
		if (!urls[n++])
			return error_oom(err);
	}
	*ret = TAKE_PTR(urls);
	return 0;
}

static size_t total_of(const struct userdata_parts *p)
{
	const struct userdata_item *items = p->items.items;
	size_t total = 0;

	for (size_t i = 0; i < p->items.n; i++)
		total += items[i].content ? (size_t)items[i].size : 0;
	return total;
}

int userdata_parts_include(struct userdata_parts *p, size_t index, const struct userdata_body *bodies, size_t n,
			   struct error *err)
{
	struct userdata_item *items = p->items.items, *all;
	struct maker m = { .total = total_of(p), .depth = items[index].depth + 1, .err = err };
	size_t rest = p->items.n - index - 1, made;
	int k = 0;

	if (n && m.depth > LIMIT_USER_DATA_INCLUDE_DEPTH)
		k = error_set(err, ERROR_USER, -E2BIG, "includes lead to includes more than %d levels deep",
			      LIMIT_USER_DATA_INCLUDE_DEPTH);
	for (size_t i = 0; k >= 0 && i < n; i++)
		k = take_whole(&m, bodies[i].data, bodies[i].len);
	made = m.parts.items.n;
	if (k >= 0 && index + made + rest > LIMIT_USER_DATA_PARTS)
		k = error_set(err, ERROR_USER, -E2BIG, "more than %d parts", LIMIT_USER_DATA_PARTS);
	all = k >= 0 ? calloc(index + made + rest + 1, sizeof(*all)) : NULL;
	if (!all) {
		userdata_parts_done(&m.parts);
		return k < 0 ? k : error_oom(err);
	}
	memcpy(all, items, index * sizeof(*all));
	if (made)
		memcpy(all + index, m.parts.items.items, made * sizeof(*all));
	memcpy(all + index + made, items + index + 1, rest * sizeof(*all));
	jd_free(&item_type, &items[index]);
	free(m.parts.items.items);
	free(items);
	p->items = (struct jd_list){ all, index + made + rest };
	return 0;
}
