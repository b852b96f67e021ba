/*
 * Scripts that are run by hand (`evenkeel scripts run`): the same job as a script of the settings, watched so that its unit is
 * released and its result is there for whoever looks; nothing of the deployment's depends on them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "handlers/custom_script/script_private.h"
#include "handlers/custom_script/script_runs.h"

#define FILE_MAX (2 * LIMIT_SCRIPT_ENCODED) /* with arguments */

struct script_hand {
	struct handler *handler;
	struct script_hand *next;
	char *name, *job;
	struct jobs_handle *handle;
};

static void settings_free(struct script_settings *s)
{
	jd_free(&script_settings_type, s);
}

static void hand_free(struct script_hand *hand)
{
	for (struct script_hand **p = &hand->handler->hands; *p; p = &(*p)->next)
		if (*p == hand) {
			*p = hand->next;
			break;
		}
	jobs_handle_free(hand->handle);
	free(hand->name);
	free(hand->job);
	free(hand);
}

static struct script_hand *hand_new(struct handler *h, const char *name, const char *job)
{
	struct script_hand *hand = calloc(1, sizeof(*hand));

	if (!hand)
		return NULL;
	*hand = (struct script_hand){ .handler = h, .next = h->hands, .name = strdup(name), .job = strdup(job) };
	h->hands = hand;
	if (hand->name && hand->job)
		return hand;
	hand_free(hand);
	return NULL;
}

static void on_hand_done(const struct job_result *r, void *userdata)
{
	struct script_hand *hand = userdata;
	struct handler *h = hand->handler;
	char phrase[128];

	log_for(LOG_LEVEL_INFO, (.handler = SCRIPT_HANDLER, .job = hand->job, .milestone = true), "script %s, run by hand: %s", hand->name,
		job_result_phrase(r, phrase));
	jobs_keep_result(h->host->jobs, hand->job, r);
	script_memory_drop_by_hand(&h->memory, hand->job);
	script_record_save_or_log(h);
	jobs_forget(h->host->jobs, hand->job, false);
	script_prune_soon(h);
	hand_free(hand);
}

/* ---- the order ---- */

static int read_file(struct handler *h, const char *id, struct script_settings *ret, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_SECRET_INIT(FILE_MAX);
	_cleanup_free_ char *path = script_hand_file(h->host->paths, id);
	struct error e = ERROR_INIT;
	int r = path ? fs_read_nofollow(path, FILE_MAX, &text, err) : error_oom(err);

	if (path)
		(void)unlink(path);
	if (r < 0)
		return r;
	/* What is wrong with it is the caller's to mend, whatever the class of a broken document is elsewhere. */
	r = script_settings_decode(buf_str(&text), text.len, ret, &e);
	return r < 0 ? error_set(err, ERROR_USER, r, "not run: %s", e.msg) : 0;
}

/* The form is that of the settings, but there is no door whose secrets could be looked up, and nothing is downloaded. */
static int check(const struct script_settings *s, struct error *err)
{
	bool command = s->command_to_execute.text || s->command_to_execute.ref;
	bool output = s->output.stdout_uri.text || s->output.stdout_uri.ref || s->output.stderr_uri.text || s->output.stderr_uri.ref;

	if (s->script.text && !command && !output && !s->environment.n && !s->files.n && !s->identity && !s->storage_account_name)
		return 0;
	return error_set(err, ERROR_USER, -EINVAL, "not run: a script that is run by hand is its content, arguments, user and limits");
}

static int start(struct handler *h, const struct script_settings *s, const char *id, struct error *err)
{
	struct job_secrets secrets = { 0 };
	struct job job = { 0 };
	struct script_hand *hand;
	int r = script_job_make(h, s, id, &job, &secrets, err);
	const struct jobs_request request = { .job = &job,
					      .secrets = &secrets,
					      .memory_max_bytes = (uint64_t)s->limits.memory_bytes,
					      .cpu_percent = (uint64_t)s->limits.cpu_percent };

	if (r < 0)
		return r;
	hand = hand_new(h, s->name, id);
	r = hand ? jobs_start(h->host->jobs, &request, on_hand_done, hand, &hand->handle, err) : error_oom(err);
	if (hand && r < 0)
		hand_free(hand);
	jd_free(&job_secrets_type, &secrets);
	jd_free(&job_type, &job);
	return r;
}

static int begin(struct handler *h, const struct script_settings *s, const char *id, struct error *err)
{
	int r = script_memory_add_by_hand(&h->memory, s->name, id);

	if (r == -EBUSY)
		return error_set(err, ERROR_USER, r, "not run: %d scripts are being run by hand already", LIMIT_RUNS_BY_HAND);
	if (r < 0)
		return error_oom(err);
	r = script_record_save(h, err);
	if (r >= 0)
		r = start(h, s, id, err);
	if (r < 0) {
		script_memory_drop_by_hand(&h->memory, id);
		script_record_save_or_log(h);
		return error_wrap(err, r, "not run");
	}
	log_for(LOG_LEVEL_INFO, (.handler = SCRIPT_HANDLER, .job = id, .milestone = true), "script %s begins, run by hand", s->name);
	return 0;
}

int script_hand_order(struct handler *h, const char *order, const char *argument, struct buf *reply, struct error *err)
{
	_cleanup_(settings_free) struct script_settings s = { 0 };
	int r;

	if (!str_equal(order, "run"))
		return error_set(err, ERROR_USER, -EINVAL, "scripts cannot be told to \"%.40s\"", order);
	if (!job_id_valid(argument) || !str_starts(argument, SCRIPT_HAND_PREFIX))
		return error_set(err, ERROR_USER, -EINVAL, "\"%.120s\" is not the id of a job that is run by hand", argument ? argument : "");
	r = read_file(h, argument, &s, err);
	if (r >= 0)
		r = check(&s, err);
	if (r >= 0)
		r = script_allow(h, &s, err);
	if (r < 0)
		return r;
	if (h->retired)
		return error_set(err, ERROR_USER, -ESHUTDOWN, "not run: the service is being removed");
	s.asynchronous = true; /* the deadline of the settings' scripts is not its */
	r = begin(h, &s, argument, err);
	return r < 0 ? r : buf_printf(reply, "%s runs as job %s", s.name, argument);
}

/* ---- an earlier process began them ---- */

void script_hands_attach(struct handler *h)
{
	const struct script_by_hand *all = h->memory.by_hand.items;
	struct error e = ERROR_INIT;

	for (size_t i = 0; i < h->memory.by_hand.n; i++) {
		struct script_hand *hand = hand_new(h, all[i].name, all[i].job);

		if (hand && jobs_attach(h->host->jobs, hand->job, on_hand_done, hand, &hand->handle, &e) < 0) {
			log_for(LOG_LEVEL_ERROR, (.handler = SCRIPT_HANDLER, .job = hand->job),
				"what becomes of script %s, begun by hand, is not known: %s", all[i].name, e.msg);
			hand_free(hand);
		}
	}
}

void script_hands_free(struct handler *h)
{
	while (h->hands)
		hand_free(h->hands);
}
