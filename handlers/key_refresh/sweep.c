/*
 * Jobs that nobody waits for any more: of a daemon that was killed before another version, or other settings, came. They are
 * left to end, and what they leave behind (it may hold a key) is removed: when everything that was under way has been taken up,
 * and again when an item has gone whose job was at work.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/io/paths.h"
#include "handlers/key_refresh/activate.h"
#include "handlers/key_refresh/item.h"

#define PREFIX	   "key-"
#define SECRETS	   ".secrets"
#define SWEPT_MAX  32 /* at once; the others go with the next start */

struct orphan {
	struct sweep *sweep;
	char *id;
	struct jobs_handle *handle;
};

struct sweep {
	struct handler *h;
	bool done;
	struct orphan orphans[SWEPT_MAX];
	size_t n;
};

static void orphan_done(struct orphan *o)
{
	jobs_handle_free(TAKE_PTR(o->handle));
	free(TAKE_PTR(o->id));
}

static void on_ended(const struct job_result *result, void *userdata)
{
	struct orphan *o = userdata;

	(void)result;
	jobs_forget(o->sweep->h->host->jobs, o->id, true);
	orphan_done(o);
}

static void take(struct sweep *s, const char *id)
{
	struct orphan *o = s->orphans;
	struct error e = ERROR_INIT;

	while (o < s->orphans + s->n && o->id)
		o++;
	*o = (struct orphan){ .sweep = s, .id = strdup(id) };
	if (!o->id)
		return;
	if (o == s->orphans + s->n)
		s->n++;
	if (jobs_attach(s->h->host->jobs, id, on_ended, o, &o->handle, &e) < 0) {
		log_for(LOG_LEVEL_DEBUG, (.handler = HANDLER, .job = id), "%s", e.msg);
		orphan_done(o);
	}
}

static void look_into(struct sweep *s, const char *directory, const char *ending)
{
	_cleanup_strv_ char **names = NULL;
	struct error e = ERROR_INIT;

	if (!fs_is_dir(directory) || fs_list(directory, LIMIT_JOB_DIRECTORIES, &names, &e) < 0)
		return;
	for (char **n = names; *n && s->n < SWEPT_MAX; n++) {
		bool known = false;

		if (!str_starts(*n, PREFIX) || !str_ends(*n, ending))
			continue;
		(*n)[strlen(*n) - strlen(ending)] = '\0';
		for (size_t k = 0; k < s->n; k++)
			known = known || str_equal(s->orphans[k].id, *n);
		if (!known && job_id_valid(*n))
			take(s, *n);
	}
}

void sweep_look(struct sweep *s)
{
	const struct handler *h = s->h;

	if (s->done || h->retiring || hooks_busy(h->hooks))
		return;
	for (size_t k = 0; k < h->n; k++)
		if (h->items[k]->phase != PHASE_IDLE)
			return;
	s->done = true;
	while (s->n && !s->orphans[s->n - 1].id)
		s->n--;
	look_into(s, h->host->paths->jobs, "");
	look_into(s, h->host->paths->run_jobs, SECRETS);
}

void sweep_again(struct sweep *s)
{
	s->done = false;
}

int sweep_new(struct handler *h, struct sweep **ret)
{
	struct sweep *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->h = h;
	*ret = s;
	return 0;
}

void sweep_free(struct sweep *s)
{
	if (!s)
		return;
	for (size_t k = 0; k < s->n; k++)
		orphan_done(&s->orphans[k]);
	free(s);
}
