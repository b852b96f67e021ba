/*
 * What has been applied, kept: the record, and the content that the machine has. What is known for the first time is noted here.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/codec/base64.h"
#include "agent/io/loop.h"
#include "agent/io/paths.h"
#include "agent/io/record.h"
#include "handlers/user_data/userdata_private.h"

/* ---- the record ---- */

int userdata_save(struct handler *h, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_USER_DATA_MEMORY);
	int r = userdata_memory_encode(&h->memory, &text);

	if (r < 0)
		return error_errno(err, r, "cannot make the record of user data");
	r = record_save(h->memory_record, text.data, text.len, err);
	if (r > 0)
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER),
			"the record of user data is kept below %s only; after a reboot it would be taken for new",
			h->host->paths->run);
	return r < 0 ? r : 0;
}

void userdata_save_or_log(struct handler *h)
{
	struct error e = ERROR_INIT;

	if (userdata_save(h, &e) < 0)
		log_for(LOG_LEVEL_ERROR, (.handler = HANDLER), "%s; a restart would not know what has been applied", e.msg);
}

static int load(struct handler *h, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_USER_DATA_MEMORY);
	struct error e = ERROR_INIT;
	int r = record_load(h->memory_record, &text, NULL, &e);

	if (r == -ENOENT)
		return 0;
	if (r >= 0)
		r = jd_decode_document(buf_str(&text), text.len, "record of user data", LIMIT_USER_DATA_MEMORY,
				       &userdata_memory_type, &h->memory, &e);
	if (r == -EBADMSG || r == -EINVAL) {
		/* What is there now is taken for the baseline: better not run than run twice. */
		log_for(LOG_LEVEL_ERROR, (.handler = HANDLER), "%s; what has been applied before is not known any more",
			e.msg);
		return 0;
	}
	if (r < 0 && err)
		*err = e;
	return r;
}

/* The content that the machine has now, for those who ask for the difference. */
static void keep_applied(const struct handler *h, const void *data, size_t len)
{
	_cleanup_free_ char *path = path_join(h->host->paths->records, "user-data.applied");
	struct error e = ERROR_INIT;

	if (path && fs_write(path, data, len, 0600, FS_REPLACE, &e) < 0)
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "%s; evenkeel userdata diff shows a former difference", e.msg);
}

/* A content that has not been known so far. False: out of memory, or it could not be recorded. */
bool userdata_note(struct handler *h, enum userdata_state state)
{
	static const char *const words[_USERDATA_STATE_MAX] = {
		[USERDATA_PENDING] = "is a change",
		[USERDATA_ADOPTED] = "was there before: it is the baseline and not run",
		[USERDATA_CLOUD_INIT] = "has been applied by cloud-init at the first boot",
		[USERDATA_IGNORED] = "is ignored by an operator's order",
	};
	const struct userdata_record *seen = &h->plan.record;
	struct userdata_revision *r = userdata_memory_add(&h->memory, seen->sha256);
	_cleanup_buf_ struct buf copy = BUF_SECRET_INIT(LIMIT_USER_DATA_DECODED);
	struct error e = ERROR_INIT;

	if (!r || str_set(&r->boot_id, h->host->boot_id) < 0)
		return false;
	r->size = seen->size;
	r->form = seen->form;
	r->seen_usec = seen->seen_usec;
	r->state = (int)state;
	h->memory.looked |= 1 << h->section->source;
	if (state == USERDATA_ADOPTED || state == USERDATA_CLOUD_INIT) {
		r->ended_usec = (int64_t)loop_now_wall(h->host->loop);
		if (str_set(&h->memory.applied, r->sha256) < 0)
			return false;
		if (userdata_copy(h, &copy, &e) >= 0)
			keep_applied(h, buf_str(&copy), copy.len);
	}
	if (userdata_save(h, &e) < 0) {
		log_for(LOG_LEVEL_ERROR, (.handler = HANDLER), "revision %.*s waits: %s", USERDATA_REVISION_CHARS, r->sha256, e.msg);
		return false;
	}
	log_for(LOG_LEVEL_INFO, (.handler = HANDLER), "revision %.*s %s", USERDATA_REVISION_CHARS, r->sha256,
		words[state]);
	h->host->changed(h->host);
	return true;
}

/* Confirmed: there is none. What comes later is a change. */
void userdata_note_unset(struct handler *h)
{
	if (!h->plan.unset || !h->section || (h->memory.looked >> h->section->source & 1))
		return;
	h->memory.looked |= 1 << h->section->source;
	userdata_save_or_log(h);
}

void userdata_keep_applied(const struct handler *h)
{
	_cleanup_buf_ struct buf data = BUF_SECRET_INIT(LIMIT_USER_DATA_DECODED);
	const char *text = h->parts.content;

	if (text && base64_decode(text, strlen(text), false, &data, NULL) >= 0)
		keep_applied(h, buf_str(&data), data.len);
}

int userdata_memory_open(struct handler *h, struct error *err)
{
	_cleanup_free_ char *path = path_join(h->host->paths->records, "user-data.memory");
	_cleanup_free_ char *fallback = path_join(h->host->paths->run, "user-data.memory");
	int r;

	if (!path || !fallback)
		return error_oom(err);
	r = record_open(path, fallback, LIMIT_USER_DATA_MEMORY, USERDATA_MEMORY_VERSION, &h->memory_record, err);
	return r < 0 ? r : load(h, err);
}

void userdata_memory_close(struct handler *h)
{
	record_close(h->memory_record);
	jd_free(&userdata_memory_type, &h->memory);
}
