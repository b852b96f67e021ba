/*
 * Custom scripts: carries out the script plan, one job after the other. What has begun stands in the record before it
 * begins, so that after a kill, a restart or a boot the plan goes on where it was and nothing runs twice.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/io/loop.h"
#include "agent/io/record.h"
#include "handlers/custom_script/script_private.h"

#define WAIT_POLL_USEC USEC_PER_SEC

void script_look_again(struct handler *h, usec_t when)
{
	loop_timer_at(h->timer, usec_min(when, loop_timer_due(h->timer)));
}

bool script_delayed(const struct handler *h, const struct script_run *run)
{
	return run && run->state == SCRIPT_PENDING && run->try_at > loop_now_boot(h->host->loop) && str_equal(run->key, h->key);
}

/* 0: met; 1: not yet; -ETIME: it did not come. */
static int wait_for(struct handler *h)
{
	usec_t now = loop_now_boot(h->host->loop), most = usec_from_seconds((uint64_t)h->section->wait_timeout_seconds);

	if (h->waited)
		return 0;
	h->waiting_for = script_wait_unmet(h->host, h->section);
	if (!h->waiting_for) {
		h->waited = true;
		h->wait_since = 0;
		return 0;
	}
	if (!h->wait_since) {
		h->wait_since = now;
		loop_timer_after(h->tick, TICK_USEC);
		h->host->changed(h->host);
	}
	if (usec_sub(now, h->wait_since) >= most || now >= h->deadline)
		return -ETIME;
	script_look_again(h, usec_add(now, WAIT_POLL_USEC));
	return 1;
}

/* What to do about script i. False: nothing further until something has happened. */
static bool look_at(struct handler *h, size_t i, const char **failed)
{
	const struct script_settings *s = (const struct script_settings *)h->section->scripts.items + i;
	const struct script_run *run = script_memory_find(&h->memory, s->name);
	enum script_action action = script_decide(s, run, h->key, h->content[i], h->host->boot_id);
	char why[160];
	int r;

	if (action == SCRIPT_ATTACH) {
		h->phase = SCRIPTS_RUNNING;
		return s->asynchronous;
	}
	if (action == SCRIPT_RUN && *failed) {
		(void)snprintf(why, sizeof(why), "script %s before it failed", *failed);
		script_not_run(h, i, why);
		return true;
	}
	if (action == SCRIPT_RUN && handler_paused(h->host)) {
		h->phase = SCRIPTS_PAUSED;
		h->paused_since = h->paused_since ? h->paused_since : loop_now_boot(h->host->loop);
		return false;
	}
	if (action == SCRIPT_RUN) {
		if (script_delayed(h, run)) {
			h->phase = s->asynchronous ? h->phase : SCRIPTS_DELAYED;
			script_look_again(h, run->try_at);
			return s->asynchronous;
		}
		r = wait_for(h);
		if (r > 0) {
			h->phase = SCRIPTS_WAITING;
			return false;
		}
		if (r < 0)
			script_give_up_waiting(h, i);
		else
			script_begin(h, i);
		run = script_memory_find(&h->memory, s->name);
		if (run && run->state == SCRIPT_RUNNING) {
			h->phase = SCRIPTS_RUNNING;
			return s->asynchronous;
		}
	}
	if (run && run->state == SCRIPT_FAILED && !s->continue_on_failure)
		*failed = s->name;
	return true;
}

/* What an operator has kept back is handled when the pause ends, however long it was: it is no part of any limit. */
static void leave_out_pause(struct handler *h)
{
	usec_t length = h->paused_since ? usec_sub(loop_now_boot(h->host->loop), h->paused_since) : 0;

	if (!length || handler_paused(h->host))
		return;
	h->paused_since = 0;
	h->memory.began_boot_usec += (int64_t)length;
	h->deadline = usec_add(h->deadline, length);
	h->wait_since = h->wait_since ? usec_add(h->wait_since, length) : 0;
	h->unsaved = true;
}

void script_advance(struct handler *h)
{
	const char *failed = NULL;

	script_lives_sweep(h);
	if (!h->section || h->retired)
		return;
	loop_timer_stop(h->timer);
	leave_out_pause(h);
	script_lives_attach(h);
	h->phase = SCRIPTS_BUSY;
	if (script_lives_former(h)) {
		if (loop_now_boot(h->host->loop) >= h->deadline)
			h->phase = SCRIPTS_LATE;
		else
			script_look_again(h, h->deadline);
		return;
	}
	h->phase = SCRIPTS_REBOOTING;
	if (script_rebooting(h))
		return;
	h->phase = SCRIPTS_OVER;
	for (size_t i = 0; i < h->section->scripts.n; i++)
		if (!look_at(h, i, &failed))
			return;
	script_lives_sweep(h);
}

static void on_timer(void *userdata)
{
	struct handler *h = userdata;

	script_advance(h);
	h->host->changed(h->host);
}

/* ---- the handler ---- */

static void free_handler(struct handler *h)
{
	if (!h)
		return;
	script_hands_free(h);
	while (h->lives) {
		struct script_live *l = h->lives;

		h->lives = l->next;
		script_live_free(l);
	}
	jobs_handle_free(h->reboot);
	jobs_handle_free(h->forget);
	free(h->forget_id);
	loop_timer_free(h->timer);
	loop_timer_free(h->tick);
	loop_timer_free(h->pruning);
	record_close(h->record);
	jd_free(&script_memory_type, &h->memory);
	jd_free(&script_policy_type, &h->policy);
	free(h->content);
	free(h->key);
	free(h->sequence);
	free(h);
}

static int open_handler(struct handler *h, struct error *err)
{
	int r = script_record_open(h, err);

	if (r < 0)
		return r;
	if (loop_timer_new(h->host->loop, "scripts", on_timer, h, &h->timer) < 0 ||
	    loop_timer_new(h->host->loop, "scripts-progress", script_on_tick, h, &h->tick) < 0 ||
	    loop_timer_new(h->host->loop, "scripts-kept", script_prune, h, &h->pruning) < 0)
		return error_oom(err);
	script_hands_attach(h);
	return 0;
}

static int handler_start(const struct handler_host *host, struct handler **ret, struct error *err)
{
	struct handler *h = calloc(1, sizeof(*h));
	int r;

	if (!h)
		return error_oom(err);
	h->host = host;
	r = open_handler(h, err);
	if (r < 0) {
		free_handler(h);
		return r;
	}
	*ret = h;
	return 0;
}

static int hash_contents(struct handler *h, const struct settings *settings, struct error *err)
{
	const struct custom_script_settings *section = settings->custom_script;
	const struct script_settings *s = section ? section->scripts.items : NULL;
	int r = 0;

	free(h->content);
	h->content = section ? calloc(section->scripts.n + 1, sizeof(*h->content)) : NULL;
	if (section && !h->content)
		return error_oom(err);
	for (size_t i = 0; r >= 0 && section && i < section->scripts.n; i++)
		r = script_content_hash(settings, &s[i], h->content[i], err);
	return r;
}

/* What runs on in the background and would not be begun again for the new goal state belongs to it from now on. */
static int adopt(struct handler *h, struct error *err)
{
	const struct script_settings *s = h->section->scripts.items;

	for (size_t i = 0; i < h->section->scripts.n; i++) {
		struct script_run *run = script_memory_find(&h->memory, s[i].name);

		if (!run || run->state != SCRIPT_RUNNING || !run->asynchronous || !s[i].asynchronous ||
		    s[i].run_policy != RUN_ONCE_PER_CONTENT || !str_equal(run->content, h->content[i]))
			continue;
		if (str_set(&run->key, h->key) < 0 || str_set(&run->sequence, h->sequence) < 0)
			return error_oom(err);
	}
	return 0;
}

/* A new goal state: a new deadline. After a boot the deadline counts anew, too: nobody knows how long the machine was off. */
static int begin_goal(struct handler *h, bool fresh, struct error *err)
{
	struct script_memory *m = &h->memory;

	if (fresh || !str_equal(m->key, h->key)) {
		if (str_set(&m->key, h->key) < 0 || str_set(&m->reboot_boot_id, NULL) < 0)
			return error_oom(err);
		m->reboots = 0;
		free(m->began_boot_id);
		m->began_boot_id = NULL;
		if (adopt(h, err) < 0)
			return -ENOMEM;
	}
	if (!str_equal(m->began_boot_id, h->host->boot_id)) {
		if (str_set(&m->began_boot_id, h->host->boot_id) < 0)
			return error_oom(err);
		m->began_boot_usec = (int64_t)loop_now_boot(h->host->loop);
		h->paused_since = 0;
		h->unsaved = true;
	}
	h->deadline = usec_add((usec_t)m->began_boot_usec, usec_from_seconds((uint64_t)h->section->deadline_seconds));
	return 0;
}

static int handler_apply(struct handler *h, const struct handler_goal *goal, struct error *err)
{
	bool first = !h->key, fresh = h->key && !str_equal(h->key, goal->key);
	int r = hash_contents(h, goal->settings, err);

	/* The former settings end with this call, whatever comes of it. */
	h->settings = NULL;
	h->section = NULL;
	if (r < 0)
		return r;
	if (str_set(&h->key, goal->key) < 0 || str_set(&h->sequence, goal->sequence) < 0)
		return error_oom(err);
	h->settings = goal->settings;
	h->section = goal->settings->custom_script;
	if (fresh) {
		h->waited = false;
		h->wait_since = 0;
	}
	loop_timer_stop(h->timer);
	if (h->section)
		r = begin_goal(h, fresh, err);
	else
		script_lives_attach(h);
	if (r < 0)
		return r;
	script_memory_prune(&h->memory, h->section);
	script_advance(h);
	/* A script that has begun has saved it already. */
	if (h->unsaved)
		script_record_save_or_log(h);
	if (first)
		script_prune(h);
	else
		script_prune_soon(h);
	h->host->changed(h->host);
	return 0;
}

static int handler_report(struct handler *h, handler_report_fn add, void *userdata)
{
	return script_report_all(h, add, userdata);
}

/* Asynchronous scripts need nobody. */
static bool handler_busy(const struct handler *h)
{
	for (const struct script_live *l = h->lives; l; l = l->next) {
		const struct script_run *run = script_memory_find(&h->memory, l->name);

		if (!l->over && run && !run->asynchronous)
			return true;
	}
	return h->section && !h->retired &&
	       (h->phase == SCRIPTS_WAITING || h->phase == SCRIPTS_DELAYED || h->phase == SCRIPTS_REBOOTING ||
		h->phase == SCRIPTS_BUSY || h->phase == SCRIPTS_LATE || h->phase == SCRIPTS_PAUSED);
}

static void handler_pause_changed(struct handler *h)
{
	script_advance(h);
	h->host->changed(h->host);
}

/* What runs, runs on to its end; nothing more is begun. */
static void handler_retire(struct handler *h)
{
	h->retired = true;
	loop_timer_stop(h->timer);
}

const struct handler_class custom_script_class = {
	.name = SCRIPT_HANDLER,
	.section = SECTION_CUSTOM_SCRIPT,
	.start = handler_start,
	.apply = handler_apply,
	.report = handler_report,
	.busy = handler_busy,
	.pause_changed = handler_pause_changed,
	.operate = script_hand_order,
	.look = script_look,
	.retire = handler_retire,
	.free = free_handler,
};
