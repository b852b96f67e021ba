/* From step to step: what the core decides is noted, then done. */
#include "handlers/key_refresh/activate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/log.h"
#include "agent/base/random.h"
#include "agent/base/str.h"
#include "agent/io/loop.h"
#include "handlers/key_refresh/install.h"
#include "handlers/key_refresh/item.h"

#define ABANDON_SENTENCE "other settings took its place"

struct activation_needs activate_needs(const struct item *i)
{
	const struct activate_settings *a = key_activate(&i->plan.wish);

	return (struct activation_needs){ .check = a->check.n,
					  .bind = jobs_can_bind(i->h->host->jobs),
					  .reload = a->reload_units.n || a->restart_units.n || a->commands.n,
					  .verify = a->verify.endpoint && i->plan.wish.certificate };
}

/* ---- what is told of it ---- */

static void log_way(const struct item *i, enum log_level level, const char *version, const char *words, const char *why)
{
	log_for(level, (.handler = HANDLER, .milestone = true), "%s: version %s %s%s%s", i->name, version ? version : "", words,
		why ? ": " : "", why ? why : "");
}

static char *text_copy(const char *text)
{
	return text ? strdup(text) : NULL;
}

static void note_untold(struct item *i)
{
	struct key_activation *a = item_way(i);

	if (!hooks_there(i->h->hooks))
		free(TAKE_PTR(a->untold));
	else if (str_set(&a->untold, i->plan.record.version) < 0)
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "%s: out of memory: the hooks are not told", i->name);
}

void activate_first(struct item *i)
{
	if (activate_needs(i).reload)
		key_activation_first(item_way(i));
	else
		key_activation_forget_rejected(item_way(i));
	i->later_boot = 0;
	note_untold(i);
}

/* The candidate becomes what is installed. */
static int note_settled(struct item *i)
{
	struct key_candidate *c = &item_way(i)->candidate;
	const struct key_clock clock = item_clock(i->h);
	struct key_found f = { .created = (usec_t)c->created_usec,
			       .not_before = (usec_t)c->not_before_usec,
			       .not_after = (usec_t)c->not_after_usec,
			       .incomplete = c->incomplete };
	_cleanup_free_ char *set = text_copy(c->set);

	if (c->set && !set)
		return -ENOMEM;
	(void)snprintf(f.version, sizeof(f.version), "%s", c->version);
	(void)snprintf(f.thumbprint, sizeof(f.thumbprint), "%s", c->thumbprint);
	if (key_was_installed(&i->plan, &f, c->shape, c->url, c->identity, &clock) < 0)
		return -ENOMEM;
	free(i->plan.record.set);
	i->plan.record.set = TAKE_PTR(set);
	/* Settings that came meanwhile want it otherwise, or there may be another version by now. */
	if (!key_installed(&i->plan) || i->resumed)
		i->plan.next_boot = clock.now_boot;
	i->resumed = false;
	return 0;
}

/* ---- ends ---- */

static void over(struct item *i)
{
	if (i->resumed)
		i->plan.next_boot = 0;
	i->resumed = false;
	key_activation_clear(item_way(i));
	(void)item_save(i, FS_REPLACE, NULL);
	item_ended(i);
}

static void on_kept(const struct job_result *result, void *userdata)
{
	struct item *i = userdata;
	char phrase[128];

	if (result->end != JOB_SUCCEEDED)
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "%s: former files cannot be removed: %s", i->name,
			job_result_why(result, phrase));
	jobs_forget(i->h->host->jobs, i->job_id, true);
	item_forget_job(i);
	item_ended(i);
}

/* What was kept to go back to goes; that it does not is no failure of the certificate. */
static void settle(struct item *i)
{
	_cleanup_(key_job_done) struct key_job j = { 0 };
	struct error e = ERROR_INIT;

	if (note_settled(i) < 0) {
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "%s: out of memory; it is put to use again", i->name);
		i->plan.next_boot = 0;
		over(i);
		return;
	}
	key_activation_clear(item_way(i));
	key_activation_forget_rejected(item_way(i));
	note_untold(i);
	(void)item_save(i, FS_REPLACE, NULL);
	log_way(i, LOG_LEVEL_INFO, i->plan.record.version, "is in use", NULL);
	item_tell(i, "is in use");
	measure_install(i, "installed");
	i->phase = PHASE_ACTIVATING;
	if (key_job_switch(i->h->host->paths, &i->plan, KEY_SWITCH_KEEP, i->plan.record.set, NULL, &j, &e) < 0 ||
	    item_start_files(i, &j, on_kept, &e) < 0) {
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "%s: former files cannot be removed: %s", i->name, e.msg);
		item_ended(i);
	}
}

/* When the version that failed may be tried again, or at the next poll, whichever is sooner. */
static void plan_next(struct item *i)
{
	const struct key_clock clock = item_clock(i->h);
	int64_t again = item_way(i)->rejected.again_usec;
	usec_t at;

	key_kept(&i->plan, &clock);
	if (again == INT64_MAX)
		return;
	at = usec_add(clock.now_boot, usec_sub((usec_t)again, clock.now_wall));
	if (at < i->plan.next_boot) {
		i->plan.next_boot = at;
		i->plan.record.next_usec = again;
	}
}

void activate_not_again(struct item *i)
{
	plan_next(i);
	item_ended(i);
}

static void rejected(struct item *i)
{
	measure_install(i, "rejected");
	plan_next(i);
	over(i);
}

static void dropped(struct item *i, const char *why)
{
	struct error e = ERROR_INIT;

	(void)error_set(&e, ERROR_SYSTEM, -EIO, "it cannot be installed: %s", why ? why : "it was interrupted");
	key_activation_clear(item_way(i));
	item_install_failed(i, &e);
}

/* ---- from step to step ---- */

static void wait_later(struct item *i)
{
	const struct key_clock clock = item_clock(i->h);
	int64_t again = item_way(i)->again_usec;

	i->later_boot = usec_add(clock.now_boot, usec_sub((usec_t)again, clock.now_wall));
	(void)item_save(i, FS_REPLACE, NULL);
	item_ended(i);
}

void activate_put_aside(struct item *i, enum log_level level, const char *why)
{
	struct key_activation *a = item_way(i);

	i->abandon = false;
	log_way(i, level, a->candidate.version, "is not gone on with", why);
	key_activation_abandon(a);
	i->plan.next_boot = 0;
	over(i);
}

/* Once for each failure, as it is noted. */
static void log_failure(const struct item *i, int from, const char *why)
{
	static const char *const words[_ACTIVATION_STEPS] = { [ACTIVATION_CHECKING] = "is not put to use",
							      [ACTIVATION_SWITCHING] = "is not put to use",
							      [ACTIVATION_TESTING] = "is taken back",
							      [ACTIVATION_RELOADING] = "is rolled back",
							      [ACTIVATION_VERIFYING] = "is rolled back" };
	const struct key_activation *a = &i->plan.record.activation;

	if (a->first)
		log_way(i, LOG_LEVEL_WARNING, i->plan.record.version, "is installed, but not everybody has been told", why);
	else if (words[from])
		log_way(i, LOG_LEVEL_WARNING, a->candidate.version, words[from], why);
	else
		log_way(i, LOG_LEVEL_WARNING, i->plan.record.version, "cannot be put back", why);
}

static void follow(struct item *i, enum activation_action action, const char *why)
{
	switch (action) {
	case ACTIVATION_DO:
		activate_go(i);
		return;
	case ACTIVATION_LATER:
		wait_later(i);
		return;
	case ACTIVATION_DROP:
		dropped(i, why);
		return;
	case ACTIVATION_SETTLE:
		/* A first install stands in the record already. */
		if (item_way(i)->first)
			over(i);
		else
			settle(i);
		return;
	case ACTIVATION_REJECT:
		rejected(i);
		return;
	case ACTIVATION_IDLE:
		item_ended(i);
	}
}

void activate_ended(struct item *i, enum activation_end end, const char *why)
{
	struct key_activation *a = item_way(i);
	const struct activation_needs needs = activate_needs(i);
	int from = a->step;
	enum activation_action action;

	if (i->abandon) {
		activate_put_aside(i, LOG_LEVEL_INFO, ABANDON_SENTENCE);
		return;
	}
	/* Begun again once; what is lost each time fails. */
	if (end == ACTIVATION_LOST && i->lost) {
		end = ACTIVATION_FAILED;
		why = "it was interrupted twice";
	}
	i->lost = end == ACTIVATION_LOST;
	i->later_boot = 0;
	if (end == ACTIVATION_FAILED && from != ACTIVATION_STAGING)
		log_failure(i, from, why);
	action = key_activation_ended(a, &needs, end, why, random_jitter(), loop_now_wall(i->h->host->loop));
	follow(i, action, why);
}

/* ---- the step that is due ---- */

void activate_go(struct item *i)
{
	struct error e = ERROR_INIT;

	i->phase = PHASE_ACTIVATING;
	i->later_boot = 0;
	if (i->abandon) {
		activate_put_aside(i, LOG_LEVEL_INFO, ABANDON_SENTENCE);
		return;
	}
	/* What is not noted must not be switched: after a kill nobody would know what there was before. */
	if (item_save(i, FS_REPLACE, &e) < 0 && item_way(i)->step == ACTIVATION_SWITCHING) {
		activate_ended(i, ACTIVATION_FAILED, e.msg);
		return;
	}
	i->h->host->changed(i->h->host);
	switch (item_way(i)->step) {
	case ACTIVATION_CHECKING:
	case ACTIVATION_TESTING:
		/* It may have been begun under other settings, and by a daemon that had systemd to do it. */
		if (!activate_needs(i).check)
			activate_ended(i, ACTIVATION_OK, NULL);
		else if (item_way(i)->step == ACTIVATION_CHECKING && !activate_needs(i).bind)
			activate_ended(i, ACTIVATION_UNBOUND, NULL);
		else
			activate_check(i);
		break;
	case ACTIVATION_SWITCHING:
		activate_switch(i, KEY_SWITCH);
		break;
	case ACTIVATION_UNDOING:
	case ACTIVATION_REVERTING:
		activate_switch(i, KEY_SWITCH_BACK);
		break;
	case ACTIVATION_RELOADING:
	case ACTIVATION_REVIVING:
		i->phase = PHASE_WAITING;
		i->waiting_boot = loop_now_boot(i->h->host->loop);
		loop_timer_after(i->h->timer, 0);
		break;
	case ACTIVATION_VERIFYING:
		activate_verify(i);
		break;
	default:
		/* Begun with content that only its beginner had. */
		key_activation_abandon(item_way(i));
		item_ended(i);
	}
}

bool activate_before_reload(const struct item *i)
{
	int step = i->plan.record.activation.step;

	if (i->phase == PHASE_FETCHING || i->phase == PHASE_INSTALLING)
		return true;
	return i->phase == PHASE_ACTIVATING && step != ACTIVATION_NONE && step != ACTIVATION_RELOADING &&
	       step != ACTIVATION_REVIVING && step != ACTIVATION_VERIFYING;
}

usec_t activate_due(const struct item *i)
{
	const struct key_activation *a = &i->plan.record.activation;

	if (i->phase != PHASE_IDLE || a->step == ACTIVATION_NONE)
		return USEC_INFINITY;
	return i->later_boot;
}

/* ---- the item ---- */

int activate_new(struct item *i)
{
	struct key_activation *a = item_way(i);
	usec_t now_wall = loop_now_wall(i->h->host->loop);
	enum activation_action action = key_activation_resume(a, now_wall);

	if (action == ACTIVATION_DROP)
		key_activation_clear(a);
	i->resumed = action == ACTIVATION_DO || action == ACTIVATION_LATER;
	if (action == ACTIVATION_LATER)
		i->later_boot = usec_add(loop_now_boot(i->h->host->loop), usec_sub((usec_t)a->again_usec, now_wall));
	return 0;
}

void activate_forget(struct item *i)
{
	activate_verify_stop(i);
	strv_free(TAKE_PTR(i->units));
	free(TAKE_PTR(i->problem));
}

void activate_reshape(struct item *i, const char *shape)
{
	struct key_activation *a = item_way(i);
	const char *of = a->candidate.shape ? a->candidate.shape : i->plan.record.shape;

	if (a->step == ACTIVATION_NONE || str_equal(of, shape))
		return;
	i->abandon = true;
	/* Else when the step that runs has ended. */
	if (i->phase == PHASE_IDLE)
		activate_put_aside(i, LOG_LEVEL_INFO, ABANDON_SENTENCE);
}
