/* The files of an activation: whether there is a way back, the new ones beside those in use, the switch to and fro. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/io/paths.h"
#include "handlers/key_refresh/activate.h"
#include "handlers/key_refresh/install.h"
#include "handlers/key_refresh/item.h"
#include "handlers/key_refresh/layout.h"

#define UNREACHABLE_MAX 500 /* see WHY_MAX in the core */

/* ---- whether it can be gone back ---- */

char *activate_current_set(const char *directory)
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
	return key_layout_find(i->h->host->paths, &i->plan.wish, NULL, &l) < 0 ? NULL : activate_current_set(l.directory);
}

bool activate_guards(const struct item *i)
{
	const struct activation_needs n = activate_needs(i);
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

/* ---- who cannot get at them ---- */

static void tell_notice(const struct item *i, const struct job_result *result)
{
	if (!str_empty(result->notice))
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "%s: %s", i->name, result->notice);
}

void activate_note_reach(struct item *i, const struct job_result *result)
{
	struct key_record *r = &i->plan.record;
	char *const *opened = result->opened.items;

	tell_notice(i, result);
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
		more[r->opened.n] = strdup(opened[n] ? opened[n] : "");
		if (!more[r->opened.n])
			return;
		r->opened.n++;
	}
}

/* ---- files ---- */

/* Somebody has removed what was to be put back: trying again would not end, and nothing newer would ever be asked for. */
static bool is_former_gone(const struct item *i)
{
	const struct key_activation *a = &i->plan.record.activation;
	_cleanup_(key_layout_done) struct key_layout l = { 0 };
	_cleanup_free_ char *set = NULL;

	if ((a->step != ACTIVATION_UNDOING && a->step != ACTIVATION_REVERTING) || !a->former ||
	    key_layout_find(i->h->host->paths, &i->plan.wish, NULL, &l) < 0)
		return false;
	set = str_format("%s/versions/%s", l.directory, a->former);
	return set && !fs_is_dir(set);
}

static void on_files(const struct job_result *result, void *userdata)
{
	struct item *i = userdata;
	_cleanup_free_ char *why = NULL;
	char phrase[128];

	if (result->end == JOB_SUCCEEDED && item_way(i)->step != ACTIVATION_STAGING)
		activate_note_reach(i, result);
	else if (result->end == JOB_SUCCEEDED)
		tell_notice(i, result);
	else
		why = strdup(job_result_why(result, phrase));
	jobs_forget(i->h->host->jobs, i->job_id, true);
	item_forget_job(i);
	if (result->end == JOB_INTERRUPTED)
		activate_ended(i, ACTIVATION_LOST, NULL);
	else if (result->end != JOB_SUCCEEDED && is_former_gone(i))
		activate_put_aside(i, LOG_LEVEL_WARNING, "what was in use before is not there any more");
	else
		activate_ended(i, result->end == JOB_SUCCEEDED ? ACTIVATION_OK : ACTIVATION_FAILED, why);
}

void activate_switch(struct item *i, enum key_switch how)
{
	_cleanup_(key_job_done) struct key_job j = { 0 };
	const struct key_activation *a = item_way(i);
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
	r = key_activation_begin(item_way(i), &c, former) < 0 ? error_oom(&e) : 0;
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
