/*
 * What user data is, as cloud-init tells it (user-data.md A; user_data.py, handlers/__init__.py): gzip is opened first
 * and kept as it is when that fails; "mime-version:" in the first 4 KiB makes a MIME message; else the first bytes decide,
 * letters of any case, after any white space. Pure. tests/agent/test_user_data_types.py holds it against cloud-init itself.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum userdata_format {
	USERDATA_FORMAT_UNKNOWN, /* text that cloud-init would not take */
	USERDATA_FORMAT_BINARY,
	USERDATA_FORMAT_MIME,
	USERDATA_FORMAT_SHELLSCRIPT,
	USERDATA_FORMAT_CLOUD_CONFIG,
	USERDATA_FORMAT_CLOUD_CONFIG_ARCHIVE,
	USERDATA_FORMAT_CLOUD_CONFIG_JSONP,
	USERDATA_FORMAT_BOOTHOOK,
	USERDATA_FORMAT_INCLUDE,
	USERDATA_FORMAT_INCLUDE_ONCE,
	USERDATA_FORMAT_PART_HANDLER,
	USERDATA_FORMAT_JINJA,
	_USERDATA_FORMAT_MAX
};

struct userdata_form {
	int format; /* enum userdata_format, of what is inside */
	bool gzip;
};

struct userdata_form userdata_detect(const void *data, size_t len);
/* Of plain bytes that stand in no gzip and are no MIME message. */
enum userdata_format userdata_detect_prefix(const void *data, size_t len);
bool userdata_is_mime(const void *data, size_t len);
/* How many bytes of white space, also beyond ASCII, stand at the beginning. */
size_t userdata_blanks(const char *text, size_t len);

/* "a shell script (#!)" … */
const char *userdata_format_phrase(int format);
/* The type that the first bytes name ("text/x-shellscript" …), or NULL. */
const char *userdata_content_type(const void *data, size_t len);
