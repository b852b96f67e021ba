/* Formats of user data, as cloud-init's user_data.py and handlers/__init__.py tell them apart. */
#include "agent/core/userdata_detect.h"

#include <string.h>
#include <strings.h>

#include "agent/base/buf.h"
#include "agent/base/limits.h"
#include "agent/base/macros.h"
#include "agent/base/str.h"
#include "agent/codec/gzip.h"

#define MIME_WINDOW 4096

static const struct {
	const char *phrase, *type;
} formats[_USERDATA_FORMAT_MAX] = {
	[USERDATA_FORMAT_UNKNOWN] = { "text of no kind that cloud-init knows", NULL },
	[USERDATA_FORMAT_BINARY] = { "binary data", NULL },
	[USERDATA_FORMAT_MIME] = { "a MIME message", NULL },
	[USERDATA_FORMAT_SHELLSCRIPT] = { "a shell script (#!)", "text/x-shellscript" },
	[USERDATA_FORMAT_CLOUD_CONFIG] = { "#cloud-config", "text/cloud-config" },
	[USERDATA_FORMAT_CLOUD_CONFIG_ARCHIVE] = { "#cloud-config-archive", "text/cloud-config-archive" },
	[USERDATA_FORMAT_CLOUD_CONFIG_JSONP] = { "#cloud-config-jsonp", "text/cloud-config-jsonp" },
	[USERDATA_FORMAT_BOOTHOOK] = { "a boot hook (#cloud-boothook)", "text/cloud-boothook" },
	[USERDATA_FORMAT_INCLUDE] = { "a list of URLs (#include)", "text/x-include-url" },
	[USERDATA_FORMAT_INCLUDE_ONCE] = { "a list of URLs (#include-once)", "text/x-include-once-url" },
	[USERDATA_FORMAT_PART_HANDLER] = { "a part handler (#part-handler)", "text/part-handler" },
	[USERDATA_FORMAT_JINJA] = { "a template (## template: jinja)", "text/jinja2" },
};

/* The longest first: some begin with others. */
static const struct {
	const char *text;
	enum userdata_format format;
} prefixes[] = {
	{ "#cloud-config-archive", USERDATA_FORMAT_CLOUD_CONFIG_ARCHIVE },
	{ "#cloud-config-jsonp", USERDATA_FORMAT_CLOUD_CONFIG_JSONP },
	{ "## template: jinja", USERDATA_FORMAT_JINJA },
	{ "#cloud-boothook", USERDATA_FORMAT_BOOTHOOK },
	{ "#cloud-config", USERDATA_FORMAT_CLOUD_CONFIG },
	{ "#include-once", USERDATA_FORMAT_INCLUDE_ONCE },
	{ "#part-handler", USERDATA_FORMAT_PART_HANDLER },
	{ "#include", USERDATA_FORMAT_INCLUDE },
	{ "#!", USERDATA_FORMAT_SHELLSCRIPT },
};

const char *userdata_format_phrase(int format)
{
	return formats[format >= 0 && format < _USERDATA_FORMAT_MAX ? format : 0].phrase;
}

bool userdata_is_mime(const void *data, size_t len)
{
	static const char word[] = "mime-version:";
	size_t n = sizeof(word) - 1;
	const char *text = data;

	len = len < MIME_WINDOW ? len : MIME_WINDOW;
	for (size_t i = 0; i + n <= len; i++)
		if (strncasecmp(text + i, word, n) == 0)
			return true;
	return false;
}

/* What Python's str.lstrip() takes away: Unicode's White_Space, and the separators 1c to 1f. */
static size_t blank(const char *text, size_t len)
{
	static const char *const wide[] = { "\xc2\x85",	    "\xc2\xa0",	    "\xe1\x9a\x80", "\xe2\x80\xa8",
					    "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80" };
	unsigned char c = (unsigned char)*text;

	if (c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1c && c <= 0x1f))
		return 1;
	for (size_t i = 0; c >= 0x80 && i < ARRAY_SIZE(wide); i++)
		if (len >= strlen(wide[i]) && memcmp(text, wide[i], strlen(wide[i])) == 0)
			return strlen(wide[i]);
	/* U+2000 to U+200A */
	if (len >= 3 && memcmp(text, "\xe2\x80", 2) == 0 && (unsigned char)text[2] >= 0x80 &&
	    (unsigned char)text[2] <= 0x8a)
		return 3;
	return 0;
}

size_t userdata_blanks(const char *text, size_t len)
{
	size_t at = 0, n;

	while (at < len && (n = blank(text + at, len - at)) > 0)
		at += n;
	return at;
}

enum userdata_format userdata_detect_prefix(const void *data, size_t len)
{
	size_t skip = userdata_blanks(data, len);
	const char *text = (const char *)data + skip;

	len -= skip;
	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
		if (len >= strlen(prefixes[i].text) &&
		    strncasecmp(text, prefixes[i].text, strlen(prefixes[i].text)) == 0)
			return prefixes[i].format;
	return utf8_valid(text, len) ? USERDATA_FORMAT_UNKNOWN : USERDATA_FORMAT_BINARY;
}

const char *userdata_content_type(const void *data, size_t len)
{
	/* cloud-init takes these words themselves for the beginning of such a part. */
	static const char *const literal[] = { "text/x-shellscript-per-instance", "text/x-shellscript-per-boot",
					       "text/x-shellscript-per-once" };
	size_t skip = userdata_blanks(data, len);

	for (size_t i = 0; i < ARRAY_SIZE(literal); i++)
		if (len - skip >= strlen(literal[i]) &&
		    strncasecmp((const char *)data + skip, literal[i], strlen(literal[i])) == 0)
			return literal[i];
	return formats[userdata_detect_prefix(data, len)].type;
}

static int detect_plain(const char *text, size_t len)
{
	return (int)(userdata_is_mime(text, len) ? USERDATA_FORMAT_MIME : userdata_detect_prefix(text, len));
}

struct userdata_form userdata_detect(const void *data, size_t len)
{
	_cleanup_buf_ struct buf inside = BUF_SECRET_INIT(LIMIT_GUNZIP_DEFAULT);

	if (gzip_detect(data, len) && gzip_inflate(data, len, &inside, NULL) >= 0)
		return (struct userdata_form){ .format = detect_plain(buf_str(&inside), inside.len), .gzip = true };
	return (struct userdata_form){ .format = detect_plain(data, len) };
}
