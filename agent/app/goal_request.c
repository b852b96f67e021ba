/* The goal state's hand-over file. */
#include "agent/app/goal_request.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/codec/json.h"
#include "agent/codec/json_record.h"
#include "agent/io/paths.h"

#define GOAL_FORMAT 1
#define LIMIT_GOAL (2 * LIMIT_SETTINGS_FILE + 64UL * 1024) /* the settings once more, escaped */

static const struct jd_type short_text = { .kind = JD_TEXT, .max = 4096 };
static const struct jd_type settings_text = { .kind = JD_TEXT, .max = (int64_t)LIMIT_SETTINGS_FILE };

/* clang-format off */
static const struct jd_field fields[] = {
	{ "handler",       &short_text,    offsetof(struct goal_request, handler),       JD_OMIT_EMPTY },
	{ "version",       &short_text,    offsetof(struct goal_request, version),       JD_OMIT_EMPTY },
	{ "sequence",      &short_text,    offsetof(struct goal_request, sequence),      JD_REQUIRED },
	{ "settings",      &settings_text, offsetof(struct goal_request, settings),      JD_OMIT_EMPTY },
	{ "problem",       &short_text,    offsetof(struct goal_request, problem),       JD_OMIT_EMPTY },
	{ "configFolder",  &short_text,    offsetof(struct goal_request, config_folder), JD_OMIT_EMPTY },
	{ "logFolder",     &short_text,    offsetof(struct goal_request, log_folder),    JD_OMIT_EMPTY },
	{ "statusFolder",  &short_text,    offsetof(struct goal_request, status_folder), JD_OMIT_EMPTY },
	{ "installation",  &short_text,    offsetof(struct goal_request, installation),  JD_OMIT_EMPTY },
	{ NULL },
};
/* clang-format on */

static const struct jd_type goal_type = { .kind = JD_OBJECT, .fields = fields, .size = sizeof(struct goal_request) };

static int read_goal(const struct paths *p, const char *name, struct goal_request *ret, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_SECRET_INIT(LIMIT_GOAL);
	_cleanup_free_ char *path = path_join(p->records, name);
	int r;

	if (!path)
		return error_oom(err);
	r = fs_read_nofollow(path, LIMIT_GOAL, &text, err);
	if (r < 0)
		return r;
	return jd_decode_record(buf_str(&text), text.len, path, LIMIT_GOAL, &goal_type, GOAL_FORMAT, ret, err);
}

/* What is asked for now counts, whoever wrote down what was asked for before; a later version finds its own beside ours. */
static int keep_newer(const char *path, const struct buf *there, struct error *err)
{
	_cleanup_free_ char *aside = NULL;
	struct error why = ERROR_INIT;

	if (jd_check_format(buf_str(there), there->len, path, LIMIT_GOAL, GOAL_FORMAT, &why) != -EPROTO)
		return 0;
	aside = str_format("%s.newer", path);
	if (!aside)
		return error_oom(err);
	log_warning("%s; it is kept as %s", why.msg, aside);
	return rename(path, aside) < 0 ? error_errno(err, -errno, "cannot move %s out of the way", path) : 0;
}

static int write_goal(const struct paths *p, const char *name, const struct goal_request *g, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_SECRET_INIT(LIMIT_GOAL), there = BUF_SECRET_INIT(LIMIT_GOAL);
	_cleanup_free_ char *path = path_join(p->records, name);
	int r;

	if (!path)
		return error_oom(err);
	r = jd_encode_record(&goal_type, GOAL_FORMAT, g, &text);
	if (r < 0)
		return error_errno(err, r, "%s: cannot encode the goal state", path);
	/* An enable at every goal state of the VM mostly brings the same again: two fsyncs less. */
	if (fs_read_nofollow(path, LIMIT_GOAL, &there, NULL) == 0) {
		if (there.len == text.len && memcmp(there.data, text.data, text.len) == 0)
			return 0;
		r = keep_newer(path, &there, err);
		if (r < 0)
			return r;
	}
	return fs_write(path, text.data, text.len, 0600, FS_REPLACE, err);
}

int goal_request_read(const struct paths *p, struct goal_request *ret, struct error *err)
{
	return read_goal(p, "goal.json", ret, err);
}

int goal_request_write(const struct paths *p, const struct goal_request *g, struct error *err)
{
	return write_goal(p, "goal.json", g, err);
}

int goal_in_force_read(const struct paths *p, struct goal_request *ret, struct error *err)
{
	return read_goal(p, "in-force.json", ret, err);
}

int goal_in_force_write(const struct paths *p, const struct goal_request *g, struct error *err)
{
	return write_goal(p, "in-force.json", g, err);
}

void goal_request_done(struct goal_request *g)
{
	jd_free(&goal_type, g);
}
