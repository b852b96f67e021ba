/*
 * Applying: carries out what agent/core/userdata_apply.h decides: which revision is begun, waited with, given up or over. Its
 * parts are part_run.c's. What has begun stands in the record before it begins, so that after a kill, a restart or a boot it
 * goes on where it was and nothing runs twice.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/core/settings_common.h"
#include "agent/io/loop.h"
#include "handlers/common/cloud_init.h"
#include "handlers/user_data/userdata_private.h"

#define WAIT_POLL_USEC	USEC_PER_SEC
#define UNKNOWN_MOST	(15 * USEC_PER_MINUTE) /* for cloud-init, where nothing says that it runs */
#define RUNNING_MOST	(2 * USEC_PER_HOUR)    /* for its final stage, which a script of its own may hold up for ever */
#define CANCEL_GRACE	(10 * USEC_PER_SEC)
#define AGAIN_USEC	(60 * USEC_PER_SEC) /* when something of this machine's did not work */
#define REVISIONS_WHOLE 5		    /* whose parts and output are kept */

/* ---- what there is ---- */

const char *userdata_content(const struct handler *h)
{
	return h->plan.record.removed_usec ? NULL : h->plan.record.sha256;
}

static int boot_of(struct handler *h)
{
	enum cloud_init_stage stage = cloud_init_look(h->host->paths);
	usec_t now = loop_now_boot(h->host->loop), waited;

	if (!h->cloud_init_since)
		h->cloud_init_since = now;
	waited = usec_sub(now, h->cloud_init_since);
	switch (stage) {
	case CLOUD_INIT_ABSENT:
		return USERDATA_BOOT_NO_CLOUD_INIT;
	case CLOUD_INIT_FINISHED:
		return USERDATA_BOOT_CLOUD_INIT_OVER;
	case CLOUD_INIT_UNKNOWN:
		return waited < UNKNOWN_MOST ? USERDATA_BOOT_UNKNOWN : USERDATA_BOOT_NO_CLOUD_INIT;
	default:
		return waited < RUNNING_MOST ? USERDATA_BOOT_CLOUD_INIT_RUNS : USERDATA_BOOT_NO_CLOUD_INIT;
	}
}

static struct userdata_facts facts_of(struct handler *h)
{
	struct userdata_facts f = { .source = h->section ? h->section->source : USERDATA_IMDS,
				    .sha256 = userdata_content(h),
				    .boot_id = h->host->boot_id,
				    .boot = boot_of(h) };
	char digest[SHA256_HEX_MAX];

	/* The copy of a source that was watched before says nothing about this one. */
	if (h->plan.record.source != f.source)
		f.sha256 = NULL;
	if (f.boot == USERDATA_BOOT_CLOUD_INIT_OVER && f.sha256) {
		f.first_boot = cloud_init_first_boot(h->host->paths);
		f.cloud_init_has_it = cloud_init_user_data(h->host->paths, digest) && str_equal(digest, f.sha256);
	}
	return f;
}

static void tell(const struct handler *h, const char *text)
{
	if (h->host->tell)
		h->host->tell(h->host, NOTICE_USER_DATA, NULL, NULL, text);
}

static void wait_for_cloud_init(struct handler *h)
{
	if (h->progress.phase != USERDATA_WAITING_CLOUD_INIT) {
		h->progress = (struct userdata_progress){ .phase = USERDATA_WAITING_CLOUD_INIT,
							  .since_boot = loop_now_boot(h->host->loop) };
		h->host->changed(h->host);
	}
	loop_timer_after(h->apply_timer, WAIT_POLL_USEC);
}

static void idle(struct handler *h)
{
	if (h->progress.phase == USERDATA_IDLE)
		return;
	h->progress = (struct userdata_progress){ .phase = USERDATA_IDLE };
	h->host->changed(h->host);
}

/* The revision that is to be begun now, or NULL. */
static struct userdata_revision *choose(struct handler *h)
{
	struct userdata_facts f = facts_of(h);
	bool noted = true;

	/* The bytes come first: they are run from the copy. */
	if (f.sha256 && h->plan.copy_due)
		return NULL;
	while (noted) {
		switch (userdata_decide(&h->memory, h->section, &f)) {
		case USERDATA_WAIT:
			wait_for_cloud_init(h);
			return NULL;
		case USERDATA_NOTE_CHANGE:
			noted = userdata_note(h, USERDATA_PENDING);
			break;
		case USERDATA_ADOPT_NOW:
			noted = userdata_note(h, USERDATA_ADOPTED);
			break;
		case USERDATA_NOTE_CLOUD_INIT:
			noted = userdata_note(h, USERDATA_CLOUD_INIT);
			break;
		case USERDATA_RUN_NOW:
			return userdata_memory_find(&h->memory, f.sha256);
		default:
			idle(h);
			return NULL;
		}
	}
	loop_timer_after(h->apply_timer, AGAIN_USEC);
	return NULL;
}

/* ---- the end of a revision ---- */

static void end_revision(struct handler *h, struct userdata_revision *r, bool cancelled)
{
	_cleanup_buf_ struct buf text = BUF_INIT(1024);
	usec_t now = loop_now_wall(h->host->loop);

	if (userdata_revision_end(&h->memory, r, (int64_t)now) < 0)
		log_for(LOG_LEVEL_ERROR, (.handler = HANDLER), "out of memory at the end of revision %.*s",
			USERDATA_REVISION_CHARS, r->sha256);
	if (cancelled)
		r->state = USERDATA_CANCELLED;
	userdata_memory_trim(&h->memory, REVISIONS_WHOLE);
	userdata_save_or_log(h);
	if (r->state == USERDATA_APPLIED)
		userdata_keep_applied(h);
	(void)buf_printf(&text, "user data revision %.*s %s: ", USERDATA_REVISION_CHARS, r->sha256,
			 cancelled		       ? "gives way to newer content"
			 : r->state == USERDATA_FAILED ? "failed"
						       : "is applied");
	userdata_phrase(r, &text);
	log_for(r->state == USERDATA_FAILED ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO, (.handler = HANDLER, .milestone = true),
		"%s", buf_str(&text));
	tell(h, buf_str(&text));
	userdata_prepare_done(h);
	userdata_part_prune(h);
	h->host->changed(h->host);
	userdata_apply_soon(h);
}

static void fail_revision(struct handler *h, struct userdata_revision *r, const struct error *why)
{
	struct userdata_run *runs = r->runs.items;

	for (size_t i = 0; i < r->runs.n; i++)
		if (runs[i].state == USERDATA_RUN_RUNNING || runs[i].state == USERDATA_RUN_PENDING)
			runs[i].state = USERDATA_RUN_SKIPPED;
	if (str_set(&r->boot_id, h->host->boot_id) < 0 || str_set(&r->message, why->msg) < 0)
		log_for(LOG_LEVEL_ERROR, (.handler = HANDLER), "out of memory: %s", why->msg);
	end_revision(h, r, false);
}

/* ---- newer content ---- */

/* Whether what is being applied must give way. */
static bool gives_way(struct handler *h, const struct userdata_revision *r)
{
	struct userdata_facts f = facts_of(h);

	if (h->section->when_busy != WHEN_BUSY_CANCEL || !f.sha256 || str_equal(f.sha256, r->sha256) ||
	    h->plan.copy_due)
		return false;
	switch (userdata_decide(&h->memory, h->section, &f)) {
	case USERDATA_NOTE_CHANGE:
	case USERDATA_RUN_NOW:
	case USERDATA_WAIT:
		return true;
	default:
		return false;
	}
}

static void cancel(struct handler *h, struct userdata_revision *r)
{
	struct userdata_run *runs = r->runs.items;

	if (h->job) {
		if (!h->cancelling) {
			log_for(LOG_LEVEL_WARNING, (.handler = HANDLER),
				"revision %.*s is stopped: newer content has come", USERDATA_REVISION_CHARS, r->sha256);
			jobs_stop(h->job, CANCEL_GRACE);
		}
		h->cancelling = true;
		return;
	}
	for (size_t i = 0; i < r->runs.n; i++)
		if (runs[i].state == USERDATA_RUN_PENDING) {
			runs[i].state = USERDATA_RUN_SKIPPED;
			if (str_set(&runs[i].message, "newer content has come") < 0)
				runs[i].message = NULL;
		}
	h->cancelling = false;
	end_revision(h, r, true);
}

/* ---- the whole ---- */

static void advance(struct handler *h)
{
	struct userdata_revision *r = userdata_memory_running(&h->memory);
	struct error e = ERROR_INIT;
	int k;

	userdata_note_unset(h);
	if (!r && h->section)
		r = choose(h);
	/* Without anything to apply, or before its parts: what is offered may call our apply(), which only sets the timer. */
	if (!r) {
		userdata_offer(h);
		return;
	}
	if (!h->section)
		return;
	if (r->state == USERDATA_RUNNING && (h->cancelling || gives_way(h, r))) {
		cancel(h, r);
		return;
	}
	if (h->job)
		return;
	k = r->state == USERDATA_RUNNING && h->planned ? 0 : userdata_prepare(h, r, &e);
	if (k > 0)
		return;
	if (k < 0) {
		fail_revision(h, r, &e);
		return;
	}
	userdata_offer(h);
	if (!h->section || userdata_offer_into_runs(h, r) < 0)
		return;
	if (!userdata_next_part(h, r))
		end_revision(h, r, false);
}

static void on_timer(void *userdata)
{
	struct handler *h = userdata;

	if (!h->retired)
		advance(h);
}

void userdata_apply_soon(struct handler *h)
{
	loop_timer_after(h->apply_timer, 0);
}

int userdata_apply_open(struct handler *h, struct error *err)
{
	return loop_timer_new(h->host->loop, "user-data-apply", on_timer, h, &h->apply_timer) < 0 ? error_oom(err) : 0;
}

void userdata_apply_close(struct handler *h)
{
	jobs_handle_free(h->job);
	userdata_fetch_free(h->fetch);
	loop_timer_free(h->apply_timer);
	userdata_parts_done(&h->parts);
	free(h->fetch_problem);
	free(h->offered);
	free(h->settings_problem);
}
