/* HandlerEnvironment.json: where the agent wants logs and status, and where it puts settings. */
#include "agent/azure/handler_environment.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/json.h"

#define FILE_NAME "HandlerEnvironment.json"

struct entry {
	char *name;
	struct handler_environment folders;
};

static int check_folder(const char *text, struct error *err)
{
	if (text[0] != '/')
		return error_set(err, ERROR_PLATFORM, -EINVAL, "expected an absolute path, got \"%.200s\"", text);
	return 0;
}

static const struct jd_type text = { .kind = JD_TEXT, .max = 256 };
static const struct jd_type folder = { .kind = JD_TEXT, .min = 1, .max = 4000, .check = check_folder };

/* clang-format off */
static const struct jd_field folder_fields[] = {
	{ "logFolder",    &folder, offsetof(struct handler_environment, log_folder),    JD_REQUIRED },
	{ "configFolder", &folder, offsetof(struct handler_environment, config_folder), JD_REQUIRED },
	{ "statusFolder", &folder, offsetof(struct handler_environment, status_folder), JD_REQUIRED },
	{ "eventsFolder", &folder, offsetof(struct handler_environment, events_folder) },
	{ NULL },
};
static const struct jd_type folders = { .kind = JD_OBJECT, .fields = folder_fields };

/* "version" is a number here and a text there, and means nothing to us; so it is one of the unknown keys. */
static const struct jd_field entry_fields[] = {
	{ "name",               &text,    offsetof(struct entry, name) },
	{ "handlerEnvironment", &folders, offsetof(struct entry, folders), JD_REQUIRED },
	{ NULL },
};
/* clang-format on */

static const struct jd_type entry = { .kind = JD_OBJECT, .fields = entry_fields, .size = sizeof(struct entry) };
static const struct jd_type document = { .kind = JD_LIST, .element = &entry, .min = 1, .max = 1 };

/* The agent writes the file in place at each of its starts, so half of it may be there for a moment. */
static int explain(const struct error *why, struct error *err)
{
	if (why->code == -ENOMEM)
		return error_oom(err);
	if (why->code == -EBADMSG)
		return error_set(
			err, ERROR_TRANSIENT, why->code,
			"%.350s; the Azure agent may be writing it: try again, and restart the agent if it stays so",
			why->msg);
	return error_set(err, ERROR_PLATFORM, why->code,
			 "%.350s; this is not what the Azure agent writes: restart it, or remove and add the extension",
			 why->msg);
}

int handler_environment_parse(const char *json, size_t len, const char *dir, struct handler_environment *ret,
			      struct error *err)
{
	_cleanup_free_ char *file = str_format("%s/" FILE_NAME, dir);
	_cleanup_free_ char *base = strdup(dir);
	struct error why = ERROR_INIT;
	struct jd_list list = { 0 };
	struct entry *e;

	if (!file || !base)
		return error_oom(err);
	if (len == 0) {
		(void)error_set(&why, ERROR_TRANSIENT, -EBADMSG, "%s: the file is empty", file);
		return explain(&why, err);
	}
	if (jd_decode_document(json, len, file, LIMIT_ENVIRONMENT_FILE, &document, &list, &why) < 0)
		return explain(&why, err);
	e = list.items;
	*ret = (struct handler_environment){
		.name = TAKE_PTR(e->name),
		.log_folder = TAKE_PTR(e->folders.log_folder),
		.config_folder = TAKE_PTR(e->folders.config_folder),
		.status_folder = TAKE_PTR(e->folders.status_folder),
		.events_folder = TAKE_PTR(e->folders.events_folder),
		.base = TAKE_PTR(base),
	};
	jd_free(&document, &list);
	return 0;
}

int handler_environment_read(const char *dir, struct handler_environment *ret, struct error *err)
{
	_cleanup_free_ char *file = str_format("%s/" FILE_NAME, dir);
	_cleanup_buf_ struct buf content = BUF_INIT(LIMIT_ENVIRONMENT_FILE);
	struct error why = ERROR_INIT;
	int r;

	if (!file)
		return error_oom(err);
	r = fs_read(file, LIMIT_ENVIRONMENT_FILE, &content, &why);
	if (r == -ENOENT)
		return error_set(err, ERROR_SYSTEM, r,
				 "%s is missing: %s is no directory of an installed extension; run the command of that "
				 "directory,"
				 " or set AZURE_GUEST_AGENT_EXTENSION_PATH",
				 file, dir);
	if (r == -EFBIG)
		return explain(&why, err);
	if (r < 0) {
		if (err)
			*err = why;
		return r;
	}
	return handler_environment_parse(buf_str(&content), content.len, dir, ret, err);
}

void handler_environment_done(struct handler_environment *e)
{
	free(e->name);
	free(e->log_folder);
	free(e->config_folder);
	free(e->status_folder);
	free(e->events_folder);
	free(e->base);
	*e = (struct handler_environment){ 0 };
}
