/* Check and commands of an activation: the customer's argv, as root, in units of their own. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/digest.h"
#include "agent/io/paths.h"
#include "handlers/key_refresh/activate.h"
#include "handlers/key_refresh/item.h"
#include "handlers/key_refresh/layout.h"

static void spec_done(struct job *spec)
{
	jd_free(&job_type, spec);
}

/* The same run has the same id: after a kill of the daemon it is found again. */
static char *run_id(struct item *i, size_t number)
{
	const struct key_activation *a = item_way(i);
	_cleanup_free_ char *all = str_format("%s\n%s\n%s\n%d\n%zu", i->name, i->plan.record.version,
					      a->candidate.version ? a->candidate.version : "", a->step, number);
	char digest[SHA256_HEX_MAX];

	return all && sha256_hex(all, strlen(all), digest) == 0 ? str_format("key-run-%.24s", digest) : NULL;
}

static int copy_argv(struct job *spec, const struct jd_list *argv)
{
	char *const *from = argv->items;
	char **to = calloc(argv->n ? argv->n : 1, sizeof(*to));

	if (!to)
		return -ENOMEM;
	spec->argv = (struct jd_list){ to, argv->n };
	for (size_t k = 0; k < argv->n; k++) {
		to[k] = strdup(from[k]);
		if (!to[k])
			return -ENOMEM;
	}
	return 0;
}

static int make_spec(struct item *i, const struct jd_list *argv, size_t number, enum told_phase phase, struct job *spec,
		     struct error *err)
{
	job_init(spec);
	spec->kind = JOB_COMMAND;
	spec->output_max_bytes = LIMIT_CHILD_OUTPUT;
	spec->tail_bytes = LIMIT_LOG_LINE;
	spec->timeout_seconds = key_activate(&i->plan.wish)->timeout_seconds;
	spec->id = run_id(i, number);
	spec->handler = strdup(HANDLER);
	spec->title = phase == TOLD_CHECK ? strdup("the check") : str_format("command %zu", number);
	if (!spec->id || !spec->handler || !spec->title || copy_argv(spec, argv) < 0 ||
	    activate_tell(spec, &i, 1, phase) < 0)
		return error_oom(err);
	return 0;
}

static int start(struct item *i, const struct job *spec, const char *from, const char *to, jobs_done_fn done, struct error *err)
{
	const struct jobs_request req = { .job = spec, .bind_from = from, .bind_to = to };
	int r = str_set(&i->job_id, spec->id) < 0 ? error_oom(err) : 0;

	if (r >= 0)
		r = jobs_start(i->h->host->jobs, &req, done, i, &i->job, err);
	if (r < 0)
		item_forget_job(i);
	return r;
}

static void forget(struct item *i)
{
	jobs_forget(i->h->host->jobs, i->job_id, true);
	item_forget_job(i);
}

/* ---- the check ---- */

static void on_checked(const struct job_result *result, void *userdata)
{
	struct item *i = userdata;
	_cleanup_buf_ struct buf why = BUF_INIT(LIMIT_STATUS_MESSAGE);
	enum activation_end end = result->end == JOB_SUCCEEDED	     ? ACTIVATION_OK :
				  result->end == JOB_INTERRUPTED     ? ACTIVATION_LOST :
								       ACTIVATION_FAILED;

	/* The unit could not be made, so nothing was judged. */
	if (result->end == JOB_NOT_STARTED && !result->started_at && item_way(i)->step == ACTIVATION_CHECKING)
		end = ACTIVATION_UNBOUND;
	activate_phrase(result, &why);
	forget(i);
	activate_ended(i, end, buf_str(&why));
}

/* Where the new files are, and what they are to cover: what is seen now, which after an activation that was not gone on with is
 * not the set that can be gone back to. */
static int find_cover(struct item *i, char **ret_from, char **ret_to)
{
	_cleanup_(key_layout_done) struct key_layout l = { 0 };
	const struct key_activation *a = item_way(i);

	if (key_layout_find(i->h->host->paths, &i->plan.wish, NULL, &l) < 0)
		return -ENOMEM;
	if (l.is_set) {
		_cleanup_free_ char *shown = activate_current_set(l.directory);

		*ret_from = str_format("%s/versions/%s", l.directory, a->candidate.set);
		*ret_to = str_format("%s/versions/%s", l.directory, shown ? shown : a->former);
	} else {
		*ret_from = str_format("%s/" JOB_FILE_NEW "%s", l.directory, l.files[0].name);
		*ret_to = path_join(l.directory, l.files[0].name);
	}
	return *ret_from && *ret_to ? 0 : -ENOMEM;
}

void activate_check(struct item *i)
{
	_cleanup_(spec_done) struct job spec = { 0 };
	_cleanup_free_ char *from = NULL, *to = NULL;
	struct error e = ERROR_INIT;
	int r = make_spec(i, &key_activate(&i->plan.wish)->check, 0, TOLD_CHECK, &spec, &e);

	if (r >= 0 && item_way(i)->step == ACTIVATION_CHECKING && find_cover(i, &from, &to) < 0)
		r = error_oom(&e);
	if (r >= 0)
		r = start(i, &spec, from, to, on_checked, &e);
	if (r < 0)
		activate_ended(i, ACTIVATION_FAILED, e.msg);
}

/* ---- commands ---- */

static void next_command(struct item *i);

/* The first failure is told; the others run all the same, for each has its own purpose. */
static void on_command(const struct job_result *result, void *userdata)
{
	struct item *i = userdata;
	_cleanup_buf_ struct buf why = BUF_INIT(LIMIT_STATUS_MESSAGE);

	if (result->end != JOB_SUCCEEDED && !i->problem) {
		activate_phrase(result, &why);
		i->problem = strdup(buf_str(&why));
	}
	forget(i);
	if (result->end == JOB_INTERRUPTED && !i->lost) {
		free(TAKE_PTR(i->problem));
		activate_ended(i, ACTIVATION_LOST, NULL);
		return;
	}
	i->command++;
	next_command(i);
}

static void commands_ended(struct item *i)
{
	_cleanup_free_ char *why = TAKE_PTR(i->problem);

	activate_ended(i, why ? ACTIVATION_FAILED : ACTIVATION_OK, why);
}

static void next_command(struct item *i)
{
	const struct jd_list *commands = &key_activate(&i->plan.wish)->commands;
	const struct jd_list *argv = commands->items;
	enum told_phase phase = item_way(i)->step == ACTIVATION_REVIVING ? TOLD_ROLLBACK : TOLD_ACTIVATE;
	_cleanup_(spec_done) struct job spec = { 0 };
	struct error e = ERROR_INIT;

	if (i->command >= commands->n || i->abandon) {
		commands_ended(i);
		return;
	}
	if (make_spec(i, &argv[i->command], i->command + 1, phase, &spec, &e) < 0 ||
	    start(i, &spec, NULL, NULL, on_command, &e) < 0) {
		if (!i->problem)
			i->problem = strdup(e.msg);
		commands_ended(i);
	}
}

/* After a unit that failed they are of no use. */
void activate_commands(struct item *i)
{
	i->phase = PHASE_ACTIVATING;
	i->command = 0;
	if (i->problem)
		commands_ended(i);
	else
		next_command(i);
}
