/* The jobs that write and remove the files of an item, and what is noted of them. */
#include <errno.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>

#include "agent/azure/keyvault.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/io/paths.h"
#include "handlers/common/jobs.h"
#include "handlers/key_refresh/activate.h"
#include "handlers/key_refresh/install.h"
#include "handlers/key_refresh/item.h"

/* ---- a job ---- */

void item_forget_job(struct item *i)
{
	jobs_handle_free(TAKE_PTR(i->job));
	free(TAKE_PTR(i->job_id));
	free(TAKE_PTR(i->job_url));
}

/* Takes the text; the oldest goes where there is no room. What is there already stays where it is. */
static int add_text(struct jd_list *l, char *text)
{
	char **items = l->items, **more;

	for (size_t k = 0; text && k < l->n; k++)
		if (str_equal(items[k], text)) {
			free(text);
			return 0;
		}
	if (text && l->n == KEY_OPENED_MAX) {
		free(items[0]);
		memmove(items, items + 1, --l->n * sizeof(*items));
	}
	more = text ? reallocarray(items, l->n + 1, sizeof(*more)) : NULL;
	if (!more) {
		free(text);
		return -ENOMEM;
	}
	l->items = more;
	more[l->n++] = text;
	return 0;
}

/* Files stay where they are when the settings want them elsewhere, since they may be in use there. */
static int note_moved(struct key_record *r)
{
	char **names = r->files.items;
	int e = 0;

	for (size_t k = 0; e >= 0 && k < r->files.n; k++)
		e = add_text(&r->former, path_join(r->directory, names[k]));
	for (size_t k = 0; e >= 0 && k < r->files.n; k++)
		free(names[k]);
	if (e >= 0)
		r->files.n = 0;
	return e;
}

/* Of a store, each version has names of its own: those of the last few are known. */
static int note_files(struct key_record *r, const struct job *job)
{
	const struct job_file *f = job->files.items;
	int e = 0;

	if (job->kind != JOB_INSTALL)
		return 0;
	if (r->directory && !str_equal(r->directory, job->directory))
		e = note_moved(r);
	if (e >= 0)
		e = str_set(&r->directory, job->directory);
	for (size_t k = 0; e >= 0 && k < job->files.n; k++)
		e = add_text(&r->files, strdup(f[k].name));
	return e;
}

int item_start_files(struct item *i, const struct key_job *j, jobs_done_fn done, struct error *err)
{
	const char *const writable[] = { j->writable, j->opening, NULL };
	const struct jobs_request req = {
		.job = &j->job,
		.secrets = j->secrets.values.n ? &j->secrets : NULL,
		.confined = true,
		.capabilities = (1ULL << CAP_CHOWN) | (1ULL << CAP_FOWNER) | (1ULL << CAP_DAC_OVERRIDE),
		.writable = writable,
	};
	int r = 0;

	if (str_set(&i->job_id, j->job.id) < 0 || str_set(&i->job_url, key_url(&i->plan.wish)) < 0 ||
	    note_files(&i->plan.record, &j->job) < 0)
		r = error_oom(err);
	if (r >= 0)
		r = jobs_start(i->h->host->jobs, &req, done, i, &i->job, err);
	if (r < 0)
		item_forget_job(i);
	return r;
}

/* ---- removing ---- */

static void tell_not_removed(const struct item *i, const char *why)
{
	log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "%s: files cannot be removed: %s", i->name, why);
}

static void on_removed(const struct job_result *result, void *userdata)
{
	struct item *i = userdata;
	struct error e = ERROR_INIT;
	char phrase[128];

	if (result->end != JOB_SUCCEEDED)
		tell_not_removed(i, job_result_why(result, phrase));
	else if (fs_unlink(i->record_path, &e) < 0)
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "%s: %s; its files are gone", i->name, e.msg);
	jobs_forget(i->h->host->jobs, i->job_id, true);
	item_forget_job(i);
	i->phase = PHASE_IDLE;
	i->h->host->changed(i->h->host);
}

static void remove_files(struct item *i)
{
	_cleanup_(key_job_done) struct key_job j = { 0 };
	struct error e = ERROR_INIT;
	int r = key_job_remove(i->h->host->paths, &i->plan, &j, &e);

	i->phase = PHASE_REMOVING;
	if (r >= 0)
		r = item_start_files(i, &j, on_removed, &e);
	if (r < 0) {
		i->phase = PHASE_IDLE;
		tell_not_removed(i, e.msg);
	}
}

void item_retire(struct item *i)
{
	if (i->phase == PHASE_FETCHING) {
		vault_call_free(TAKE_PTR(i->call));
		i->phase = PHASE_IDLE;
	}
	if (i->phase == PHASE_IDLE && i->h->settings->remove_on_uninstall && i->plan.record.version)
		remove_files(i);
}

/* ---- installing ---- */

static void note_installed(struct item *i, const struct job_result *result, struct error *err)
{
	const struct key_clock clock = item_clock(i->h);
	const struct key_found *f = &i->found;

	if (key_was_installed(&i->plan, f, i->job_shape, i->job_url, i->identity, &clock) < 0 ||
	    str_set(&i->plan.record.set, i->job_set) < 0) {
		(void)error_oom(err);
		return;
	}
	activate_note_reach(i, result);
	activate_first(i);
	(void)item_save(i, FS_REPLACE, NULL);
	log_for(LOG_LEVEL_INFO, (.handler = HANDLER, .job = i->job_id, .milestone = true),
		"%s: version %s is installed%s%s", i->name, f->version, f->thumbprint[0] ? ", thumbprint " : "",
		f->thumbprint);
	measure_install(i, "installed");
	item_tell(i, "is installed");
	/* Settings that came while it ran want it otherwise. */
	if (!key_installed(&i->plan))
		i->plan.next_boot = clock.now_boot;
}

static void on_pruned(const struct job_result *result, void *userdata)
{
	struct item *i = userdata;
	char phrase[128];

	if (result->end != JOB_SUCCEEDED)
		tell_not_removed(i, job_result_why(result, phrase));
	jobs_forget(i->h->host->jobs, i->job_id, true);
	item_forget_job(i);
	item_ended(i);
}

/* What a store keeps too many of. It is no failure of the certificate when that does not go. */
static void prune(struct item *i)
{
	_cleanup_(key_job_done) struct key_job j = { 0 };
	struct error e = ERROR_INIT;
	int r = key_job_prune(i->h->host->paths, &i->plan, &j, &e);

	i->phase = PHASE_REMOVING;
	if (r > 0)
		r = item_start_files(i, &j, on_pruned, &e) < 0 ? -1 : 1;
	if (r < 0)
		tell_not_removed(i, e.msg);
	if (r <= 0)
		item_ended(i);
}

static void on_installed(const struct job_result *result, void *userdata)
{
	struct item *i = userdata;
	struct error why = ERROR_INIT;
	char phrase[128];

	if (result->end == JOB_SUCCEEDED)
		note_installed(i, result, &why);
	else
		(void)error_set(&why, ERROR_SYSTEM, -EIO, "it cannot be installed: %s",
				job_result_why(result, phrase));
	jobs_forget(i->h->host->jobs, i->job_id, true);
	item_forget_job(i);
	if (why.msg[0])
		item_install_failed(i, &why);
	else
		prune(i);
}

void item_install(struct item *i, const struct x509_bundle *bundle, const struct vault_secret *secret)
{
	_cleanup_(key_job_done) struct key_job j = { 0 };
	struct error e = ERROR_INIT;
	int r;

	if (activate_guards(i)) {
		activate_begin(i, bundle, secret->value, secret->len);
		return;
	}
	r = key_job_install(i->h->host->paths, &i->plan, &i->found, bundle, secret->value, secret->len, &j, &e);
	memcpy(i->job_shape, i->plan.shape, sizeof(i->job_shape));
	i->phase = PHASE_INSTALLING;
	if (r >= 0 && str_set(&i->job_set, j.job.version) < 0)
		r = error_oom(&e);
	if (r >= 0)
		r = item_start_files(i, &j, on_installed, &e);
	if (r < 0)
		item_install_failed(i, &e);
}
