/* User data: the handler. Watching is watch.c, applying apply.c. */
#include <stdlib.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/core/settings_common.h"
#include "agent/io/loop.h"
#include "handlers/user_data/userdata_private.h"

static void handler_free(struct handler *h)
{
	if (!h)
		return;
	userdata_apply_close(h);
	userdata_memory_close(h);
	userdata_watch_close(h);
	free(h);
}
DEFINE_CLEANUP(struct handler *, handler_free)

static int user_data_start(const struct handler_host *host, struct handler **ret, struct error *err)
{
	_cleanup_(handler_freep) struct handler *h = calloc(1, sizeof(*h));
	int r;

	if (!h)
		return error_oom(err);
	h->host = host;
	r = userdata_watch_open(h, err);
	if (r >= 0)
		r = userdata_memory_open(h, err);
	if (r >= 0)
		r = userdata_apply_open(h, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(h);
	return 0;
}

/* Everything else follows from the timer: this may be called while settings of user data are being put in force. */
static int user_data_apply(struct handler *h, const struct handler_goal *goal, struct error *err)
{
	h->section = goal->settings->user_data;
	free(TAKE_PTR(h->offered));
	if (goal->user_data_refused && str_set(&h->settings_problem, goal->user_data_refused) < 0)
		return error_oom(err);
	userdata_watch(h);
	userdata_apply_soon(h);
	h->host->changed(h->host);
	return 0;
}

static bool user_data_busy(const struct handler *h)
{
	return h->job || (h->section && !h->retired && h->section->action == USERDATA_APPLY &&
			  h->progress.phase != USERDATA_IDLE);
}

static void user_data_pause_changed(struct handler *h)
{
	if (!h->retired)
		userdata_apply_soon(h);
}

/* Nothing of ours on the machine but files of the state directory; what runs, runs on to its end. */
static void user_data_retire(struct handler *h)
{
	h->retired = true;
	userdata_unwatch(h);
	loop_timer_stop(h->apply_timer);
}

const struct handler_class user_data_class = {
	.name = HANDLER,
	.section = SECTION_USER_DATA,
	.start = user_data_start,
	.apply = user_data_apply,
	.report = userdata_report,
	.measure = userdata_measure,
	.busy = user_data_busy,
	.pause_changed = user_data_pause_changed,
	.operate = userdata_operate,
	.look = userdata_look,
	.retire = user_data_retire,
	.free = handler_free,
};
