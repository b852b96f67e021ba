/* From goal.json to a deployment: accepted, rejected, or not decided yet, as the record knows it over restarts. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/app/daemon_private.h"
#include "agent/app/documents.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/core/exit_codes.h"
#include "agent/io/loop.h"

/* settings.md 3.2: secrets that cannot be decrypted are tried for this long before it is told as an error. */
#define UNDECIDABLE_USEC (10 * USEC_PER_MINUTE)
#define AGAIN_SOON_USEC	 (10 * USEC_PER_SEC)
#define AGAIN_LATE_USEC	 (60 * USEC_PER_SEC)

/* ---- the record ---- */

static enum status_level level_of(const char *name)
{
	for (enum status_level l = 0; l < _STATUS_LEVEL_MAX; l++)
		if (str_equal(name, status_level_name(l)))
			return l;
	return STATUS_TRANSITIONING;
}

/* The key of a goal state whose settings cannot be read (yet): no hash, but a number of its own. */
static char *provisional_key(const struct daemon *d)
{
	return str_format("%s/%s/?", d->goal.installation ? d->goal.installation : "-",
			  d->goal.sequence ? d->goal.sequence : "");
}

static int record_deployment(struct daemon *d, struct error *err)
{
	int r = deployment_save(d->deployments, err);

	if (r == 1)
		log_warning("the deployment record could only be kept in %s; it will be lost at a reboot", d->paths.run);
	return r < 0 ? r : 0;
}

/* Begins a deployment, or goes on with the one that the record knows: equal keys mean nothing new is due. One that began
 * undecided goes on under its real key, with its latch. */
static int begin_deployment(struct daemon *d, const char *key, const char *accepted, struct error *err)
{
	struct deployment *dep = deployment_of(d->deployments);
	const char *sequence = d->goal.sequence ? d->goal.sequence : "";
	_cleanup_free_ char *provisional = provisional_key(d);
	bool same = str_equal(dep->key, key);

	if (!provisional)
		return error_oom(err);
	if (same || (str_equal(dep->key, provisional) && level_of(dep->top) == STATUS_ERROR)) {
		if (status_model_resume(d->model, sequence, level_of(dep->top), dep->message ? dep->message : "") < 0)
			return error_oom(err);
		if (same)
			return 0;
	} else if (status_model_begin(d->model, sequence, accepted) < 0 || str_set(&dep->sequence, sequence) < 0 ||
		   str_set(&dep->top, status_level_name(STATUS_TRANSITIONING)) < 0 ||
		   str_set(&dep->message, accepted) < 0) {
		return error_oom(err);
	}
	return str_set(&dep->key, key) < 0 ? error_oom(err) : record_deployment(d, err);
}

/* ---- what becomes of it ---- */

/* After a restart with a goal state that was refused: what was accepted before it is in force again. */
static void restore_former(struct daemon *d)
{
	_cleanup_(goal_request_done) struct goal_request former = { 0 };
	_cleanup_(settings_done) struct settings s = { 0 };
	_cleanup_free_ char *key = NULL;
	struct error e = ERROR_INIT;
	int r;

	if (d->have_settings)
		return;
	r = goal_in_force_read(&d->paths, &former, &e);
	if (r == -ENOENT)
		r = 0; /* nothing was ever accepted: the files below /etc, or nothing, count */
	if (r >= 0)
		r = daemon_load_documents(d, &former, NULL, &s, &key, &e);
	if (r < 0) {
		log_warning("the settings in force before cannot be used: %s; nothing is configured until others come", e.msg);
		settings_done(&s);
		s = (struct settings){ 0 };
	}
	free(d->key);
	d->key = TAKE_PTR(key);
	if (daemon_put_in_force(d, &s, &e) < 0)
		log_error("not all of the settings before are in force again: %s", e.msg);
}

/* Certificate or key of the protected settings are not there yet: tried again, told after a while. */
static int undecidable(struct daemon *d, const struct error *why, struct error *err)
{
	_cleanup_free_ char *key = provisional_key(d);
	usec_t now = loop_now_boot(d->loop);
	bool late;
	int r;

	if (!key)
		return error_oom(err);
	if (!d->undecidable_since)
		d->undecidable_since = now;
	late = usec_sub(now, d->undecidable_since) >= UNDECIDABLE_USEC;
	r = begin_deployment(d, key, "Waiting for the certificate of the protected settings", err);
	if (r < 0)
		return r;
	daemon_say_settings(d, late ? STATUS_ERROR : STATUS_TRANSITIONING, late ? DUTY_FAILED : DUTY_OPEN,
			    late ? CODE_NO_CERTIFICATE : CODE_NONE, why->msg);
	loop_timer_after(d->again, late ? AGAIN_LATE_USEC : AGAIN_SOON_USEC);
	restore_former(d);
	return 0;
}

static int rejected(struct daemon *d, const char *key, const struct error *why, int code, struct error *err)
{
	_cleanup_free_ char *provisional = provisional_key(d);
	char message[64];
	int r;

	if (!provisional)
		return error_oom(err);
	(void)snprintf(message, sizeof(message), "Sequence %s received", d->goal.sequence ? d->goal.sequence : "-");
	r = begin_deployment(d, key ? key : provisional, message, err);
	if (r < 0)
		return r;
	daemon_say_rejected(d, why, code ? code : CODE_BAD_CONFIGURATION);
	restore_former(d);
	return 0;
}

/* "Sequence 4 accepted: 2 scripts, 3 certificates" */
static int accepted_message(const struct daemon *d, const struct settings *s, struct buf *out)
{
	size_t scripts = s->custom_script ? s->custom_script->scripts.n : 0;
	size_t keys = s->key_refresh ? s->key_refresh->certificates.n + s->key_refresh->secrets.n : 0;

	(void)buf_printf(out, "Sequence %s accepted", d->goal.sequence);
	if (scripts)
		(void)buf_printf(out, ": %zu script%s", scripts, scripts == 1 ? "" : "s");
	if (keys)
		(void)buf_printf(out, "%s%zu certificate%s", scripts ? ", " : ": ", keys, keys == 1 ? "" : "s");
	return buf_ok(out);
}

static int accepted(struct daemon *d, struct settings *s, char *key, struct error *err)
{
	_cleanup_buf_ struct buf message = BUF_INIT(256);
	struct error e = ERROR_INIT;
	int r;

	if (accepted_message(d, s, &message) < 0)
		return error_oom(err);
	r = begin_deployment(d, key, buf_str(&message), err);
	if (r < 0)
		return r;
	if (d->have_goal && goal_in_force_write(&d->paths, &d->goal, &e) < 0)
		log_warning("%s; after a restart the former settings would be in force", e.msg);
	free(d->key);
	d->key = strdup(key);
	if (!d->key)
		return error_oom(err);
	r = daemon_put_in_force(d, s, &e);
	if (r < 0)
		daemon_say_settings(d, STATUS_ERROR, DUTY_FAILED, CODE_INTERNAL, e.msg);
	else if (deployment_refused(d->deployments))
		daemon_say_settings(d, STATUS_ERROR, DUTY_FAILED, CODE_INTERNAL, deployment_refused(d->deployments));
	else
		daemon_say_accepted(d);
	return 0;
}

/* goal.json of a later version, whose commands we have not heard of: until an enable says what is wanted in words of ours, what
 * is in force stays so, and a daemon that has just begun touches nothing. */
static int not_understood(struct daemon *d, const struct error *why, struct error *err)
{
	const struct deployment *dep = deployment_of(d->deployments);

	if (!d->have_settings && dep->key &&
	    status_model_resume(d->model, dep->sequence ? dep->sequence : "", level_of(dep->top), dep->message ? dep->message : "") < 0)
		return error_oom(err);
	daemon_say_settings(d, STATUS_ERROR, DUTY_NONE, CODE_INTERNAL, why->msg);
	log_for(LOG_LEVEL_ERROR, (.handler = "settings"), "%s; waiting for an enable", why->msg);
	return 0;
}

int daemon_load_goal(struct daemon *d, struct error *err)
{
	_cleanup_(settings_done) struct settings s = { 0 };
	_cleanup_free_ char *key = NULL;
	struct error e = ERROR_INIT;
	int r;

	loop_timer_stop(d->again);
	goal_request_done(&d->goal);
	r = goal_request_read(&d->paths, &d->goal, &e);
	d->have_goal = r >= 0;
	if (r < 0 && r != -ENOENT && r != -EPROTO)
		log_error("%s; going on without an extension's goal state", e.msg);
	if (!d->have_goal && (str_set(&d->goal.sequence, "") < 0 || str_set(&d->goal.installation, DOCUMENTS_FILES) < 0))
		return error_oom(err);
	if (r == -EPROTO)
		return not_understood(d, &e, err);

	r = daemon_load_documents(d, &d->goal, NULL, &s, &key, &e);
	if (r < 0 && e.cls == ERROR_TRANSIENT)
		r = undecidable(d, &e, err);
	else if (r < 0)
		r = rejected(d, key, &e, s.error_code, err);
	else
		r = accepted(d, &s, key, err);
	if (r >= 0) {
		if (key)
			d->undecidable_since = 0;
		daemon_write_status(d);
	}
	return r;
}
