/* From step to step: what the core decides is noted, then done. */
#include "handlers/key_refresh/activate.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/log.h"
#include "agent/base/random.h"
#include "agent/base/str.h"
#include "agent/io/loop.h"
#include "agent/io/paths.h"
#include "handlers/key_refresh/install.h"
#include "handlers/key_refresh/item.h"
#include "handlers/key_refresh/layout.h"

#define ABANDON_SENTENCE "other settings took its place"
#define UNREACHABLE_MAX	 500 /* see WHY_MAX in the core */

static struct key_activation *way(struct item *i)
{
	return &i->plan.record.activation;
}

static struct activation_needs needs_of(const struct item *i)
{
	const struct activate_settings *a = key_activate(&i->plan.wish);

	return (struct activation_needs){ .check = a->check.n,
					  .bind = jobs_can_bind(i->h->host->jobs),
					  .reload = a->reload_units.n || a->restart_units.n || a->commands.n,
					  .verify = a->verify.endpoint && i->plan.wish.certificate };
}

/* ---- whether it can be gone back ---- */

/* The set that DIRECTORY/current shows, or NULL. */
static char *current_set(const char *directory)
{
	_cleanup_free_ char *link = path_join(directory, "current");
	char text[PATH_MAX];
	ssize_t n = link ? readlink(link, text, sizeof(text) - 1) : -1;
	const char *slash;

	if (n < 0)
		return NULL;
	text[n] = '\0';
	slash = strrchr(text, '/');
	return slash && slash[1] ? strdup(slash + 1) : NULL;
}

static char *former_set(const struct item *i)
{
	_cleanup_(key_layout_done) struct key_layout l = { 0 };

	if (i->plan.record.set)
		return strdup(i->plan.record.set);
	return key_layout_find(i->h->host->paths, &i->plan.wish, NULL, &l) < 0 ? NULL : current_set(l.directory);
}

bool activate_guards(const struct item *i)
{
	const struct activation_needs n = needs_of(i);
	const struct key_wish *w = &i->plan.wish;
	_cleanup_free_ char *former = NULL;
	char set[KEY_SET_MAX];

	if (!(n.check || n.reload || n.verify) || !i->plan.record.version)
		return false;
	/* Where they are to be there must be files now, or there is nothing to cover and nothing to go back to. */
	if (!key_layout_there(i->h->host->paths, w))
		return false;
	if (w->secret)
		return true;
	if (w->certificate->layout != STORE_OWN)
		return false;
	former = former_set(i);
	return former && !str_equal(former, key_set_name(&i->plan, &i->found, set));
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

void activate_note_reach(struct item *i, const struct job_result *result)
{
	struct key_record *r = &i->plan.record;
	char *const *opened = result->opened.items;

	free(TAKE_PTR(r->unreachable));
	if (!str_empty(result->warning))
		r->unreachable = strndup(result->warning, utf8_cut(result->warning, strlen(result->warning), UNREACHABLE_MAX));
	if (r->unreachable)
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "%s: %s", i->name, r->unreachable);
	for (size_t n = 0; n < result->opened.n && r->opened.n < KEY_OPENED_MAX; n++) {
		char **more = reallocarray(r->opened.items, r->opened.n + 1, sizeof(*more));

		if (!more)
			return;
		r->opened.items = more;
		more[r->opened.n] = text_copy(opened[n]);
		if (!more[r->opened.n])
			return;
		r->opened.n++;
	}
}

static void note_untold(struct item *i)
{
	struct key_activation *a = way(i);

	if (!hooks_there(i->h->hooks))
		free(TAKE_PTR(a->untold));
	else if (str_set(&a->untold, i->plan.record.version) < 0)
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "%s: out of memory: the hooks are not told", i->name);
}

void activate_first(struct item *i)
{
	if (needs_of(i).reload)
		key_activation_first(way(i));
	else
		key_activation_forget_rejected(way(i));
	i->later_boot = 0;
	note_untold(i);
}

/* The candidate becomes what is installed. */
static int note_settled(struct item *i)
{
	struct key_candidate *c = &way(i)->candidate;
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
	key_activation_clear(way(i));
	(void)item_save(i, FS_REPLACE, NULL);
	item_ended(i);
}

static void on_kept(const struct job_result *result, void *userdata)
{
	struct item *i = userdata;

	if (result->end != JOB_SUCCEEDED)
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "%s: former files cannot be removed: %s", i->name,
			str_empty(result->message) ? "" : result->message);
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
	key_activation_clear(way(i));
	key_activation_forget_rejected(way(i));
	note_untold(i);
	(void)item_save(i, FS_REPLACE, NULL);
	log_way(i, LOG_LEVEL_INFO, i->plan.record.version, "is in use", NULL);
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
	int64_t again = way(i)->rejected.again_usec;
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
	plan_next(i);
	over(i);
}

static void dropped(struct item *i, const char *why)
{
	struct error e = ERROR_INIT;

	(void)error_set(&e, ERROR_SYSTEM, -EIO, "it cannot be installed: %s", why ? why : "it was interrupted");
	key_activation_clear(way(i));
	item_install_failed(i, &e);
}

/* ---- from step to step ---- */

static void wait_later(struct item *i)
{
	const struct key_clock clock = item_clock(i->h);
	int64_t again = way(i)->again_usec;

	i->later_boot = usec_add(clock.now_boot, usec_sub((usec_t)again, clock.now_wall));
	(void)item_save(i, FS_REPLACE, NULL);
	item_ended(i);
}

static void put_aside(struct item *i)
{
	struct key_activation *a = way(i);

	i->abandon = false;
	log_way(i, LOG_LEVEL_INFO, a->candidate.version, "is not gone on with", ABANDON_SENTENCE);
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
		if (way(i)->first)
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
	struct key_activation *a = way(i);
	const struct activation_needs needs = needs_of(i);
	int from = a->step;
	enum activation_action action;

	if (i->abandon) {
		put_aside(i);
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

/* ---- files ---- */

static void on_files(const struct job_result *result, void *userdata)
{
	struct item *i = userdata;
	_cleanup_free_ char *why = NULL;
	char phrase[128];

	if (result->end == JOB_SUCCEEDED && way(i)->step != ACTIVATION_STAGING)
		activate_note_reach(i, result);
	else if (result->end != JOB_SUCCEEDED)
		why = strdup(str_empty(result->message) ? job_result_phrase(result, phrase) : result->message);
	jobs_forget(i->h->host->jobs, i->job_id, true);
	item_forget_job(i);
	if (result->end == JOB_INTERRUPTED)
		activate_ended(i, ACTIVATION_LOST, NULL);
	else
		activate_ended(i, result->end == JOB_SUCCEEDED ? ACTIVATION_OK : ACTIVATION_FAILED, why);
}

static void switch_files(struct item *i, enum key_switch how)
{
	_cleanup_(key_job_done) struct key_job j = { 0 };
	const struct key_activation *a = way(i);
	const char *made = a->candidate.set, *set = how == KEY_SWITCH ? made : a->former;
	struct error e = ERROR_INIT;
	int r = key_job_switch(i->h->host->paths, &i->plan, how, set, how == KEY_SWITCH_BACK ? made : NULL, &j, &e);

	if (r >= 0)
		r = item_start_files(i, &j, on_files, &e);
	if (r < 0)
		activate_ended(i, ACTIVATION_FAILED, e.msg);
}

void activate_begin(struct item *i, const struct x509_bundle *bundle, const char *value, size_t len)
{
	_cleanup_(key_job_done) struct key_job j = { 0 };
	const struct key_found *f = &i->found;
	char set[KEY_SET_MAX];
	const struct key_candidate c = { .url = (char *)(uintptr_t)key_url(&i->plan.wish),
					 .shape = i->plan.shape,
					 .version = i->found.version,
					 .thumbprint = i->found.thumbprint,
					 .identity = i->identity,
					 .set = i->plan.wish.certificate ? set : NULL,
					 .created_usec = (int64_t)f->created,
					 .not_before_usec = (int64_t)f->not_before,
					 .not_after_usec = (int64_t)f->not_after,
					 .incomplete = f->incomplete };
	_cleanup_free_ char *former = i->plan.wish.certificate ? former_set(i) : NULL;
	struct error e = ERROR_INIT;
	int r;

	(void)key_set_name(&i->plan, f, set);
	i->phase = PHASE_ACTIVATING;
	i->lost = i->abandon = i->resumed = false;
	r = key_activation_begin(way(i), &c, former) < 0 ? error_oom(&e) : 0;
	if (r < 0) {
		item_install_failed(i, &e);
		return;
	}
	(void)item_save(i, FS_NO_SYNC, NULL);
	r = key_job_stage(i->h->host->paths, &i->plan, f, bundle, value, len, &j, &e);
	if (r >= 0)
		r = item_start_files(i, &j, on_files, &e);
	if (r < 0)
		activate_ended(i, ACTIVATION_FAILED, e.msg);
}

/* ---- the step that is due ---- */

void activate_go(struct item *i)
{
	struct error e = ERROR_INIT;

	i->phase = PHASE_ACTIVATING;
	i->later_boot = 0;
	if (i->abandon) {
		put_aside(i);
		return;
	}
	/* What is not noted must not be switched: after a kill nobody would know what there was before. */
	if (item_save(i, FS_REPLACE, &e) < 0 && way(i)->step == ACTIVATION_SWITCHING) {
		activate_ended(i, ACTIVATION_FAILED, e.msg);
		return;
	}
	i->h->host->changed(i->h->host);
	switch (way(i)->step) {
	case ACTIVATION_CHECKING:
	case ACTIVATION_TESTING:
		/* It may have been begun under other settings, and by a daemon that had systemd to do it. */
		if (!needs_of(i).check)
			activate_ended(i, ACTIVATION_OK, NULL);
		else if (way(i)->step == ACTIVATION_CHECKING && !needs_of(i).bind)
			activate_ended(i, ACTIVATION_UNBOUND, NULL);
		else
			activate_check(i);
		break;
	case ACTIVATION_SWITCHING:
		switch_files(i, KEY_SWITCH);
		break;
	case ACTIVATION_UNDOING:
	case ACTIVATION_REVERTING:
		switch_files(i, KEY_SWITCH_BACK);
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
	struct key_activation *a = way(i);
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
	struct key_activation *a = way(i);
	const char *of = a->candidate.shape ? a->candidate.shape : i->plan.record.shape;

	if (a->step == ACTIVATION_NONE || str_equal(of, shape))
		return;
	i->abandon = true;
	/* Else when the step that runs has ended. */
	if (i->phase == PHASE_IDLE)
		put_aside(i);
}
