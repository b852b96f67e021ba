/* Leaves of the tables: paths, file names, modes, and who owns a file. */
#include <errno.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/core/settings_formats_internal.h"
#include "agent/core/settings_tables.h"

#define AGENT_DIR "/var/lib/waagent"

static int check_path(const char *text, struct error *err)
{
	static const char *const forbidden[] = { "/proc", "/sys", "/dev", "/run/evenkeel" };
	_cleanup_buf_ struct buf plain = BUF_INIT(4097);
	char value[FORMAT_SHOWN_SIZE];

	if (!*text)
		return 0;
	if (*text != '/' || strlen(text) > 4096 || format_has_control(text))
		return format_wrong(err, "an absolute path", text);
	for (const char *p = text; *p;) {
		size_t len = strcspn(p += strspn(p, "/"), "/");

		if (len == 2 && p[0] == '.' && p[1] == '.')
			return format_wrong(err, "a path without \"..\"", text);
		if (len > 0 && !(len == 1 && *p == '.')) {
			buf_putc(&plain, '/');
			buf_append(&plain, p, len);
		}
		p += len;
	}
	if (buf_ok(&plain) < 0)
		return error_oom(err);
	for (size_t i = 0; i < ARRAY_SIZE(forbidden); i++) {
		size_t len = strlen(forbidden[i]);

		if (str_starts(buf_str(&plain), forbidden[i]) && (plain.data[len] == '/' || plain.data[len] == '\0'))
			return error_set(err, ERROR_USER, -EINVAL,
					 "\"%s\" cannot be used; choose a path that is not below %s",
					 format_shown(text, value), forbidden[i]);
	}
	/* The agent takes every entry there with a "-" in its name for an extension and deletes it. */
	if (str_starts(buf_str(&plain), AGENT_DIR "/")) {
		const char *entry = plain.data + strlen(AGENT_DIR "/");
		size_t len = strcspn(entry, "/");

		if (memchr(entry, '-', len))
			return error_set(err, ERROR_USER, -EINVAL,
					 "the Azure agent deletes \"" AGENT_DIR
					 "/%.*s\"; choose a directory outside " AGENT_DIR,
					 (int)utf8_cut(entry, len, 128), entry);
	}
	return 0;
}

static int check_mode(const char *text, struct error *err)
{
	const char *digits = *text == '0' && strlen(text) == 4 ? text + 1 : text;

	if (strlen(digits) != 3 || strspn(digits, "01234567") != 3)
		return format_wrong(err, "a mode of three octal digits, e.g. \"0640\"", text);
	return 0;
}

static bool is_account(const char *text, size_t len)
{
	if (len == 0 || len > 255 || *text == '-' || *text == '.')
		return false;
	for (size_t i = 0; i < len; i++)
		if (ascii_is_control(text[i]) || strchr(" /:,\"'", text[i]))
			return false;
	return true;
}

static int check_account(const char *text, struct error *err)
{
	if (!*text || is_account(text, strlen(text)))
		return 0;
	return format_wrong(err, "the name or number of a user or group", text);
}

static int check_user_and_group(const char *text, struct error *err)
{
	size_t user = strcspn(text, ":");

	if (!is_account(text, user) || (text[user] && !is_account(text + user + 1, strlen(text + user + 1))))
		return format_wrong(err, "USER or USER:GROUP", text);
	return 0;
}

static int check_file_name(const char *text, struct error *err)
{
	if (strchr(text, '/') || format_has_control(text) || strlen(text) > 255 || str_equal(text, ".") ||
	    str_equal(text, ".."))
		return format_wrong(err, "a plain file name", text);
	return 0;
}

int check_relative_file_name(const char *text, struct error *err)
{
	if (strlen(text) > 1024 || format_has_control(text) || *text == '/' || str_ends(text, "/"))
		return format_wrong(err, "a file name relative to the run's directory", text);
	for (const char *p = text; *p;) {
		size_t len = strcspn(p, "/");

		if (len == 0 || len > 255 || (len == 1 && *p == '.') || (len == 2 && p[0] == '.' && p[1] == '.'))
			return format_wrong(
				err, "a file name relative to the run's directory, without \".\" and \"..\"", text);
		p += len;
		p += *p == '/';
	}
	if (str_equal(text, "stdout") || str_equal(text, "stderr"))
		return error_set(err, ERROR_USER, -EINVAL,
				 "\"%s\" is where the script's output goes; give another name", text);
	return 0;
}

const struct jd_type st_path = { .kind = JD_TEXT, .min = 1, .check = check_path, .pattern = "^/" };
const struct jd_type st_path_or_none = { .kind = JD_TEXT, .check = check_path };
const struct jd_type st_mode = { .kind = JD_TEXT, .min = 1, .check = check_mode, .pattern = "^0?[0-7]{3}$" };
const struct jd_type st_user = { .kind = JD_TEXT, .check = check_account };
const struct jd_type st_group = { .kind = JD_TEXT, .check = check_account };
const struct jd_type st_user_and_group = { .kind = JD_TEXT, .min = 1, .check = check_user_and_group };
const struct jd_type st_file_name = { .kind = JD_TEXT, .min = 1, .check = check_file_name, .pattern = "^[^/]+$" };
const struct jd_type st_relative_file_name = { .kind = JD_TEXT, .check = check_relative_file_name };
