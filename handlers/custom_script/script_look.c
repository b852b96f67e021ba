/* What the daemon knows of scripts, for those who look on. The runs themselves stand in files that they can read. */
#include <errno.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/core/script_view.h"
#include "handlers/custom_script/script_private.h"

static int add(const struct handler *h, size_t i, struct script_view *view)
{
	const struct script_settings *s = (const struct script_settings *)h->section->scripts.items + i;
	const struct script_run *run = script_memory_find(&h->memory, s->name);
	_cleanup_buf_ struct buf waiting = BUF_INIT(LIMIT_STATUS_MESSAGE);
	struct view_script *v = script_view_get(view, s->name, "settings");
	int r;

	if (!v)
		return -ENOMEM;
	if (script_decide(s, run, h->key, h->content[i], h->host->boot_id) != SCRIPT_RUN)
		return script_view_tell(v, run, NULL);
	script_report_waiting(h, run, &waiting);
	r = script_view_tell(v, NULL, buf_str(&waiting));
	v->attempts = run && str_equal(run->key, h->key) ? run->attempts : 0;
	return r < 0 ? r : str_set(&v->sequence, h->sequence);
}

static void view_done(struct script_view *v)
{
	jd_free(&script_view_type, v);
}

int script_look(struct handler *h, const char *query, struct buf *json, struct error *err)
{
	_cleanup_(view_done) struct script_view view = { .running = true };
	int r = 0;

	(void)query;
	for (size_t i = 0; r >= 0 && h->section && i < h->section->scripts.n; i++)
		r = add(h, i, &view);
	if (r >= 0)
		r = jd_encode(&script_view_type, &view, false, json);
	return r < 0 ? error_errno(err, r, "the scripts cannot be shown") : 0;
}
