/* Records, read by who looks on. */
#include "agent/app/record_files.h"

#include <errno.h>
#include <stdlib.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/base/time.h"
#include "agent/core/drain_record.h"
#include "agent/core/drain_view.h"
#include "agent/io/machine.h"
#include "agent/io/paths.h"
#include "agent/io/record.h"

int record_files_read(const struct paths *p, const char *name, size_t max, uint32_t version, struct buf *text)
{
	_cleanup_free_ char *path = path_join(p->records, name), *fallback = path_join(p->run, name);
	_cleanup_(record_closep) struct record *record = NULL;
	struct error ignored;
	int r;

	if (!path || !fallback)
		return -ENOMEM;
	/* Opening makes what is not there. */
	if (!fs_exists(path) && !fs_exists(fallback))
		return -ENOENT;
	r = record_open(path, fallback, max, version, &record, &ignored);
	return r < 0 ? r : record_load(record, text, NULL, &ignored);
}

int record_files_drain(const struct paths *p, struct drain_view *ret)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_RECORD);
	_cleanup_(drain_state_freep) struct drain_state *state = NULL;
	struct drain_now now = { .wall = time_wall(), .boot = time_boot() };
	char boot[MACHINE_ID_MAX];
	struct error ignored;
	int r = record_files_read(p, "drain", LIMIT_RECORD, DRAIN_RECORD_VERSION, &text);

	if (r >= 0)
		r = drain_record_decode(buf_str(&text), text.len, &state, &ignored);
	if (r < 0)
		return r;
	if (machine_boot_id(p, boot, &ignored) < 0)
		boot[0] = '\0';
	return drain_view_fill_record(state, str_equal(state->boot_id, boot), now, ret);
}
