/*
 * From content to parts that can be run: taken apart, includes fetched, and the whole written down before anything of it
 * begins. So a revision is applied as it was planned, whatever comes in between.
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
#include "agent/codec/json_record.h"
#include "agent/io/loop.h"
#include "agent/io/paths.h"
#include "handlers/common/cloud_init.h"
#include "handlers/common/package_locks.h"
#include "handlers/user_data/userdata_private.h"

#define PLAN_FORMAT 1 /* agent/codec/json_record.h */
#define LOCKS_MOST_USEC (15 * USEC_PER_MINUTE)
#define LOCKS_POLL_USEC USEC_PER_SEC
/* About six minutes in all: a network that comes late is not a change that failed. */
#define RECORD_AGAIN  (30 * USEC_PER_SEC)
#define FETCH_TRIES   10
#define FETCH_FIRST   (2 * USEC_PER_SEC)
#define FETCH_DOUBLED 5 /* times */

static char *plan_path(const struct handler *h)
{
	return path_join(h->host->paths->records, "user-data.plan");
}

void userdata_prepare_done(struct handler *h)
{
	_cleanup_free_ char *path = plan_path(h);
	struct error e = ERROR_INIT;

	userdata_fetch_free(h->fetch);
	h->fetch = NULL;
	userdata_parts_done(&h->parts);
	h->planned = h->unlocked = false;
	h->fetch_tries = 0;
	h->progress = (struct userdata_progress){ .phase = USERDATA_IDLE };
	free(TAKE_PTR(h->fetch_problem));
	if (path && fs_unlink(path, &e) < 0)
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "the plan of what was applied stays: %s", e.msg);
}

/* ---- the plan on disk ---- */

static int write_plan(struct handler *h, struct error *err)
{
	_cleanup_free_ char *path = plan_path(h);
	_cleanup_buf_ struct buf text = BUF_SECRET_INIT(LIMIT_USER_DATA_PLAN);
	int r;

	if (!path)
		return error_oom(err);
	r = jd_encode_record(&userdata_parts_type, PLAN_FORMAT, &h->parts, &text);
	return r < 0 ? error_errno(err, r, "cannot write down %s", path) : fs_write(path, text.data, text.len, 0600, FS_REPLACE, err);
}

static int read_plan(struct handler *h, const char *sha256, struct error *err)
{
	_cleanup_free_ char *path = plan_path(h);
	_cleanup_buf_ struct buf text = BUF_SECRET_INIT(LIMIT_USER_DATA_PLAN);
	struct userdata_parts parts = { 0 };
	int r;

	if (!path)
		return error_oom(err);
	r = fs_read_nofollow(path, LIMIT_USER_DATA_PLAN, &text, err);
	if (r >= 0)
		r = jd_decode_record(buf_str(&text), text.len, path, LIMIT_USER_DATA_PLAN, &userdata_parts_type, PLAN_FORMAT,
				     &parts, err);
	if (r < 0)
		return r;
	if (!str_equal(parts.sha256, sha256)) {
		userdata_parts_done(&parts);
		return error_set(err, ERROR_SYSTEM, -ENOENT, "%s is of other user data", path);
	}
	userdata_parts_done(&h->parts);
	h->parts = parts;
	return 0;
}

/* ---- waiting ---- */

static bool wait_for_locks(struct handler *h)
{
	usec_t now = loop_now_boot(h->host->loop);

	if (h->unlocked)
		return false;
	if (h->progress.phase != USERDATA_WAITING_LOCKS) {
		h->progress = (struct userdata_progress){ .phase = USERDATA_WAITING_LOCKS, .since_boot = now };
		h->host->changed(h->host);
	}
	h->unlocked = !package_locks_held(h->host->paths);
	/* What is applied may not need a package manager at all. */
	if (!h->unlocked && usec_sub(now, h->progress.since_boot) >= LOCKS_MOST_USEC) {
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER),
			"the package manager's lock is still held; user data is applied all the same");
		h->unlocked = true;
	}
	if (h->unlocked)
		return false;
	loop_timer_after(h->apply_timer, LOCKS_POLL_USEC);
	return true;
}

/* ---- includes ---- */

static void on_fetched(struct handler *h, const struct userdata_body *bodies, size_t n, const struct error *failure)
{
	struct error e = ERROR_INIT;

	if (failure)
		e = *failure;
	else if (userdata_parts_include(&h->parts, h->include, bodies, n, &e) < 0)
		h->fetch_tries = FETCH_TRIES; /* it would be the same again */
	else
		h->fetch_tries = 0;
	if (e.msg[0]) {
		usec_t wait = FETCH_FIRST << (h->fetch_tries < FETCH_DOUBLED ? h->fetch_tries : FETCH_DOUBLED);

		h->fetch_tries++;
		if (str_set(&h->fetch_problem, e.msg) < 0)
			h->fetch_problem = NULL;
		h->try_at = usec_add(loop_now_boot(h->host->loop), wait);
		h->progress.problem = h->fetch_problem;
		h->progress.next_boot = h->try_at;
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "%s; it is tried again", e.msg);
	} else {
		free(TAKE_PTR(h->fetch_problem));
		h->progress.problem = NULL;
	}
	h->host->changed(h->host);
	userdata_apply_soon(h);
}

/* 0: none is left; 1: one is being fetched, or will be. */
static int fetch_includes(struct handler *h, struct error *err)
{
	struct userdata_item *items = h->parts.items.items;
	usec_t now = loop_now_boot(h->host->loop);

	if (h->fetch)
		return 1;
	for (size_t i = 0; i < h->parts.items.n; i++) {
		const char *why;
		int r;

		if (items[i].kind != USERDATA_KIND_INCLUDE || !userdata_part_due(&items[i], h->section, false, &why))
			continue;
		/* As under cloud-init: without all that it names, nothing of it is run. */
		if (h->fetch_tries > FETCH_TRIES - 1)
			return error_set(err, ERROR_USER, -EIO, "%s",
					 h->fetch_problem ? h->fetch_problem : "an include cannot be fetched");
		if (h->fetch_problem && now < h->try_at) {
			loop_timer_at(h->apply_timer, h->try_at);
			return 1;
		}
		if (h->progress.phase != USERDATA_FETCHING)
			h->progress = (struct userdata_progress){ .phase = USERDATA_FETCHING, .since_boot = now };
		h->include = i;
		r = userdata_fetch_start(h, &items[i], on_fetched, err);
		if (r != 0)
			return r;
		/* It names nothing. */
		r = userdata_parts_include(&h->parts, i, NULL, 0, err);
		if (r < 0)
			return r;
		return fetch_includes(h, err);
	}
	return 0;
}

/* ---- the whole ---- */

static int take_apart(struct handler *h, const struct userdata_revision *r, struct error *err)
{
	_cleanup_buf_ struct buf data = BUF_SECRET_INIT(LIMIT_USER_DATA_DECODED),
				 encoded = BUF_SECRET_INIT(2 * LIMIT_USER_DATA_DECODED);
	int k = userdata_copy(h, &data, err);

	/* Lost or spoilt: the next look brings it again. */
	if (k < 0) {
		h->plan.copy_due = true;
		return k == -ENOMEM ? k : 1;
	}
	userdata_parts_done(&h->parts);
	k = userdata_parts_make(buf_str(&data), data.len, r->sha256, &h->parts, err);
	if (k >= 0 && (base64_encode(buf_str(&data), data.len, &encoded) < 0 ||
		       str_set(&h->parts.content, buf_str(&encoded)) < 0))
		k = error_oom(err);
	return k;
}

static bool cloud_init_has(const struct handler *h, const char *sha256)
{
	char digest[SHA256_HEX_MAX];

	return cloud_init_look(h->host->paths) == CLOUD_INIT_FINISHED && cloud_init_user_data(h->host->paths, digest) &&
	       str_equal(digest, sha256);
}

/* Nothing has begun, and nothing is wrong with the content: a disk that is full now is not full for ever. */
static int not_yet(struct handler *h, const struct error *why)
{
	bool first = !h->fetch_problem;

	if (str_set(&h->fetch_problem, why->msg) < 0)
		h->fetch_problem = NULL;
	h->try_at = usec_add(loop_now_boot(h->host->loop), RECORD_AGAIN);
	h->progress = (struct userdata_progress){ .phase = USERDATA_DELAYED,
						  .since_boot = loop_now_boot(h->host->loop),
						  .next_boot = h->try_at,
						  .problem = h->fetch_problem };
	if (first)
		log_for(LOG_LEVEL_ERROR, (.handler = HANDLER), "%s; it is tried again", why->msg);
	loop_timer_at(h->apply_timer, h->try_at);
	h->host->changed(h->host);
	return 1;
}

/* Everything is there: written down, the plan first, then that it is being carried out. */
static int settle(struct handler *h, struct userdata_revision *r, struct error *err)
{
	int k = write_plan(h, err);

	if (k < 0)
		return not_yet(h, err);
	if (userdata_runs_make(r, &h->parts, h->section, cloud_init_has(h, r->sha256)) < 0 ||
	    str_set(&r->boot_id, h->host->boot_id) < 0 || str_set(&r->message, NULL) < 0)
		return error_oom(err);
	r->state = USERDATA_RUNNING;
	r->begun_usec = (int64_t)loop_now_wall(h->host->loop);
	r->ended_usec = 0;
	k = userdata_save(h, err);
	if (k < 0) {
		r->state = USERDATA_PENDING;
		(void)error_wrap(err, k, "not run, because that could not be recorded");
		return not_yet(h, err);
	}
	free(TAKE_PTR(h->fetch_problem));
	h->planned = true;
	h->try_at = 0;
	h->progress =
		(struct userdata_progress){ .phase = USERDATA_APPLYING, .since_boot = loop_now_boot(h->host->loop) };
	log_for(LOG_LEVEL_INFO, (.handler = HANDLER, .milestone = true), "revision %.*s is being applied: %zu part%s",
		USERDATA_REVISION_CHARS, r->sha256, h->parts.items.n, h->parts.items.n == 1 ? "" : "s");
	h->host->changed(h->host);
	return 0;
}

int userdata_prepare(struct handler *h, struct userdata_revision *r, struct error *err)
{
	int k;

	if (r->state == USERDATA_RUNNING) {
		k = read_plan(h, r->sha256, err);
		if (k < 0)
			return error_wrap(err, k, "what was being applied is lost");
		h->planned = true;
		h->progress = (struct userdata_progress){ .phase = USERDATA_APPLYING,
							  .since_boot = loop_now_boot(h->host->loop) };
		return 0;
	}
	if (!h->parts.sha256 || !str_equal(h->parts.sha256, r->sha256)) {
		userdata_fetch_free(TAKE_PTR(h->fetch));
		h->fetch_tries = 0;
		h->progress.problem = NULL;
		free(TAKE_PTR(h->fetch_problem));
		k = take_apart(h, r, err);
		if (k != 0)
			return k;
	}
	if (wait_for_locks(h))
		return 1;
	k = fetch_includes(h, err);
	return k != 0 ? k : settle(h, r, err);
}
