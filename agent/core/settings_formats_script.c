/* Leaves of the tables: what is run, how it is checked, what it is given, and secrets. */
#include <errno.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/codec/base64.h"
#include "agent/codec/gzip.h"
#include "agent/core/settings_formats_internal.h"
#include "agent/core/settings_tables.h"

static int check_sha256(const char *text, struct error *err)
{
	size_t len = strspn(text, "0123456789abcdefABCDEF");

	if (len != 64 || text[64])
		return format_wrong(err, "SHA-256 as 64 hexadecimal digits", text);
	return 0;
}

static int check_base64(const char *text, struct error *err)
{
	_cleanup_buf_ struct buf out = BUF_SECRET_INIT(LIMIT_SCRIPT_ENCODED);
	struct error why = ERROR_INIT;
	int r;

	if (!*text)
		return 0;
	r = base64_decode(text, strlen(text), true, &out, &why);
	if (r == -ENOMEM)
		return error_oom(err);
	if (r < 0)
		return error_set(err, ERROR_USER, -EINVAL, "expected %s", why.msg);
	return 0;
}

/* A script in base64, which may be gzip: what cannot be unpacked is told before anything is downloaded. */
int check_script(const char *text, struct error *err)
{
	_cleanup_buf_ struct buf packed = BUF_SECRET_INIT(LIMIT_SCRIPT_ENCODED);
	_cleanup_buf_ struct buf plain = BUF_SECRET_INIT(LIMIT_SCRIPT_DECODED);
	int r = check_base64(text, err);

	if (r < 0 || !*text)
		return r;
	r = base64_decode(text, strlen(text), true, &packed, err);
	if (r < 0)
		return r;
	if (!gzip_detect(buf_str(&packed), packed.len))
		return 0;
	r = gzip_inflate(packed.data, packed.len, &plain, NULL);
	if (r == -ENOMEM)
		return error_oom(err);
	if (r == -EFBIG)
		return error_set(err, ERROR_USER, -EINVAL, "expected a script of at most %lu bytes once unpacked",
				 LIMIT_SCRIPT_DECODED);
	if (r < 0)
		return error_set(err, ERROR_USER, -EINVAL, "expected a whole gzip; this one is cut off or damaged");
	return 0;
}

static int check_storage_account_name(const char *text, struct error *err)
{
	size_t len = strlen(text);

	if (len > 0 && (len < 3 || len > 24 || strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789") != len))
		return format_wrong(err, "3 to 24 lower-case letters and digits", text);
	return 0;
}

static int check_variable(const char *text, struct error *err)
{
	if (!(ascii_is_alpha(*text) || *text == '_') || strlen(text) > 128 || !format_only(text, "_"))
		return format_wrong(err, "the name of an environment variable (letters, digits, \"_\")", text);
	return 0;
}

const struct jd_type st_sha256 = { .kind = JD_TEXT, .min = 1, .check = check_sha256, .pattern = "^[0-9a-fA-F]{64}$" };
const struct jd_type st_shell_text = { .kind = JD_SECRETABLE, .max = 32768, .what = "shell text of at most 32 KiB" };
const struct jd_type st_script_text = {
	.kind = JD_SECRETABLE,
	.max = LIMIT_SCRIPT_ENCODED,
	.check = check_script,
	.what = "a script in base64",
};
const struct jd_type st_argument = {
	.kind = JD_TEXT,
	.no_secret = "a secretRef cannot be an argument (every user can read argv); use environment",
};
const struct jd_type st_storage_account_name = { .kind = JD_TEXT, .check = check_storage_account_name };
const struct jd_type st_storage_account_key = {
	.kind = JD_SECRETABLE,
	.must_be_secret = true,
	.check = check_base64,
	.what = "a storage account's key (base64)",
};
static const struct jd_type st_secret_value = { .kind = JD_SECRETABLE };
const struct jd_type st_secret_only = { .kind = JD_SECRETABLE, .must_be_secret = true };
#define COMMAND_WHAT "a command as a list, e.g. [\"nginx\", \"-t\"], or with a shell [\"sh\", \"-c\", \"TEXT\"]"
const struct jd_type st_command = {
	.kind = JD_LIST, .min = 1, .max = LIMIT_ARGV, .element = &st_argument, .what = COMMAND_WHAT
};
const struct jd_type st_command_or_none = {
	.kind = JD_LIST, .max = LIMIT_ARGV, .element = &st_argument, .what = COMMAND_WHAT
};
const struct jd_type st_commands = { .kind = JD_LIST, .max = 16, .element = &st_command };
const struct jd_type st_exit_codes = {
	.kind = JD_LIST,
	.max = 32,
	.element = &(const struct jd_type){ .kind = JD_INTEGER, .min = 1, .max = 255 },
};
const struct jd_type st_environment = {
	.kind = JD_MAP,
	.max = 64,
	.size = sizeof(struct script_variable),
	.value_offset = offsetof(struct script_variable, value),
	.element = &st_secret_value,
	.check = check_variable,
	.pattern = "^[A-Za-z_][A-Za-z0-9_]*$",
};
