/* What is remembered of scripts over kills, restarts and boots: one durable record. */
#include <errno.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/io/paths.h"
#include "agent/io/record.h"
#include "handlers/custom_script/script_private.h"
#include "handlers/custom_script/script_runs.h"

#define RECORD_NAME "custom-script"

int script_record_save(struct handler *h, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_RECORD);
	struct script_run *runs = h->memory.runs.items;
	int r = jd_encode(&script_memory_type, &h->memory, false, &text);

	if (r == -EFBIG) {
		/* Outputs are for people; what has run is for the machine. */
		for (size_t i = 0; i < h->memory.runs.n; i++)
			if (str_set(&runs[i].output, NULL) < 0)
				return error_oom(err);
		buf_reset(&text);
		r = jd_encode(&script_memory_type, &h->memory, false, &text);
	}
	if (r < 0)
		return error_errno(err, r, "cannot make the record of the scripts");
	r = record_save(h->record, text.data, text.len, err);
	if (r >= 0)
		h->unsaved = false;
	if (r > 0)
		log_for(LOG_LEVEL_WARNING, (.handler = SCRIPT_HANDLER),
			"the record of the scripts is kept below %s only; after a reboot they would run again", h->host->paths->run);
	return r < 0 ? r : 0;
}

void script_record_save_or_log(struct handler *h)
{
	struct error e = ERROR_INIT;

	if (script_record_save(h, &e) < 0)
		log_for(LOG_LEVEL_ERROR, (.handler = SCRIPT_HANDLER), "%s; a restart would not know what has run", e.msg);
}

static int load(struct handler *h, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_RECORD);
	struct error e = ERROR_INIT;
	int r = record_load(h->record, &text, NULL, &e);

	if (r == -ENOENT)
		return 0;
	if (r >= 0)
		r = jd_decode_document(buf_str(&text), text.len, "record of the scripts", LIMIT_RECORD, &script_memory_type,
				       &h->memory, &e);
	if (r == -EBADMSG || r == -EINVAL) {
		log_for(LOG_LEVEL_ERROR, (.handler = SCRIPT_HANDLER),
			"%s; what has run before is not known any more, the scripts of these settings run anew", e.msg);
		return 0;
	}
	if (r < 0 && err)
		*err = e;
	return r;
}

int script_record_peek(const struct paths *p, struct script_memory *ret, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_RECORD);
	_cleanup_free_ char *path = path_join(p->records, RECORD_NAME), *fallback = path_join(p->run, RECORD_NAME);
	_cleanup_(record_closep) struct record *record = NULL;
	struct error e = ERROR_INIT;
	int r;

	if (!path || !fallback)
		return error_oom(err);
	/* Opening makes what is not there. */
	if (!fs_exists(path) && !fs_exists(fallback))
		return 0;
	r = record_open(path, fallback, LIMIT_RECORD, SCRIPT_RECORD_VERSION, &record, err);
	if (r >= 0)
		r = record_load(record, &text, NULL, &e);
	if (r == -ENOENT)
		return 0;
	if (r >= 0)
		return jd_decode_document(buf_str(&text), text.len, "record of the scripts", LIMIT_RECORD, &script_memory_type, ret, err);
	return error_set(err, e.cls, r, "%s", e.msg);
}

int script_record_open(struct handler *h, struct error *err)
{
	_cleanup_free_ char *path = path_join(h->host->paths->records, RECORD_NAME);
	_cleanup_free_ char *fallback = path_join(h->host->paths->run, RECORD_NAME);
	int r;

	if (!path || !fallback)
		return error_oom(err);
	r = record_open(path, fallback, LIMIT_RECORD, SCRIPT_RECORD_VERSION, &h->record, err);
	return r < 0 ? r : load(h, err);
}
