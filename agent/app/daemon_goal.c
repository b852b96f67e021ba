/* From goal.json and the files below /etc to the settings in force. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/app/daemon_private.h"
#include "agent/app/documents.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/core/exit_codes.h"
#include "agent/io/http.h"
#include "agent/io/log_sinks.h"
#include "agent/io/loop.h"

/* settings.md 3.2: secrets that cannot be decrypted are tried for this long before it is told as an error. */
#define UNDECIDABLE_USEC (10 * USEC_PER_MINUTE)
#define AGAIN_SOON_USEC	 (10 * USEC_PER_SEC)
#define AGAIN_LATE_USEC	 (60 * USEC_PER_SEC)

/* ---- telling ---- */

static void say(struct daemon *d, enum status_level level, enum duty duty, int code, const char *message)
{
	if (str_set(&d->settings_message, message) < 0)
		return;
	d->settings_component = (struct component){ .name = "settings",
						    .level = level,
						    .duty = duty,
						    .code = code,
						    .message = d->settings_message };
}

/* Every sentence of the report, a line each. */
static void say_rejected(struct daemon *d, const struct error *e, int code)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_STATUS_MESSAGE);

	for (unsigned i = 0; i < d->report.n_errors; i++)
		if (buf_printf(&text, "%s%s", i ? "\n" : "", d->report.errors[i]) < 0)
			break;
	if (d->report.n_errors_found > d->report.n_errors)
		(void)buf_printf(&text, "\nand %u more", d->report.n_errors_found - d->report.n_errors);
	say(d, STATUS_ERROR, DUTY_FAILED, code, d->report.n_errors ? buf_str(&text) : e->msg);
	log_for(LOG_LEVEL_ERROR, (.handler = "settings", .sequence = d->goal.sequence), "%s", d->settings_message);
}

static void say_accepted(struct daemon *d)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_STATUS_MESSAGE);
	unsigned sections = 0;

	for (enum settings_section s = 0; s < _SECTION_MAX; s++) {
		const void *const present[_SECTION_MAX] = {
			[SECTION_CUSTOM_SCRIPT] = d->settings.custom_script, [SECTION_KEY_REFRESH] = d->settings.key_refresh,
			[SECTION_DRAIN] = d->settings.drain,		     [SECTION_USER_DATA] = d->settings.user_data,
			[SECTION_HEALTH] = d->settings.health,		     [SECTION_NOTIFY] = d->settings.notify,
			[SECTION_NETWORK] = d->settings.network,	     [SECTION_LOG] = d->settings.log,
		};

		if (present[s])
			(void)buf_printf(&text, "%s%s", sections++ ? ", " : "in force: ", settings_section_name(s));
	}
	if (!sections)
		(void)buf_puts(&text, "nothing configured");
	for (unsigned i = 0; i < d->report.n_warnings; i++) {
		(void)buf_printf(&text, "\nwarning: %s", d->report.warnings[i]);
		log_for(LOG_LEVEL_WARNING, (.handler = "settings", .sequence = d->goal.sequence), "%s", d->report.warnings[i]);
	}
	say(d, d->report.n_warnings ? STATUS_WARNING : STATUS_SUCCESS, DUTY_DONE, CODE_NONE, buf_str(&text));
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

/* ---- applying ---- */

static int apply_network(struct daemon *d, const struct settings *s, struct error *err)
{
	const char *no_proxy[DOCUMENTS_NO_PROXY];
	struct http_options o;

	documents_network(s, no_proxy, &o);
	return http_configure(d->http, &o, err);
}

/* The log file follows the folder that the agent gave and the settings. */
static void apply_log(struct daemon *d, const struct settings *s)
{
	const struct log_settings *l = s->log ? s->log : &settings_log_defaults;
	const char *folder = d->goal.log_folder ? d->goal.log_folder : d->paths.log_default;
	_cleanup_free_ char *path = path_join(folder, "evenkeel.log");
	struct error e = ERROR_INIT;

	log_file_close(TAKE_PTR(d->log));
	if (path && (fs_mkdirs(folder, 0755, &e) < 0 || log_file_open(path, (size_t)l->max_size_bytes, (unsigned)l->max_files,
								      (enum log_level)l->level, &d->log, &e) < 0))
		log_warning("%s; logging to the journal only", e.msg);
	log_console_remove();
	if (l->console)
		log_console_add(d->paths.console);
	log_journal_remove();
	log_journal_add((enum log_level)l->level);
}

/* Where what user data had brought cannot be read, a section that it may set is not gone: what it has drained stays so until the
 * user data has been seen. */
static bool may_come_back(const struct daemon *d, const struct settings *s, enum settings_section section)
{
	const void *const there[_SECTION_MAX] = { [SECTION_CUSTOM_SCRIPT] = s->custom_script,
						  [SECTION_KEY_REFRESH] = s->key_refresh,
						  [SECTION_DRAIN] = s->drain,
						  [SECTION_USER_DATA] = s->user_data };
	char *const *allowed = s->user_data ? s->user_data->settings_sections.items : NULL;

	if (!d->user_settings_lost || there[section])
		return false;
	for (size_t i = 0; allowed && i < s->user_data->settings_sections.n; i++)
		if (str_equal(allowed[i], settings_section_name(section)))
			return true;
	return false;
}

static int apply_handlers(struct daemon *d, const struct settings *s, struct error *err)
{
	_cleanup_free_ char *user_key = str_format("user-data/%s", d->user_key ? d->user_key : "");
	const struct handler_goal goal = { .settings = s,
					   .sequence = d->goal.sequence ? d->goal.sequence : "",
					   .key = d->key,
					   .user_data_refused = d->user_data_refused };
	/* A section that user data has brought is new when the user data is, not with the sequence number. */
	const struct handler_goal user = { .settings = s,
					   .sequence = "user data",
					   .key = user_key,
					   .user_data_refused = d->user_data_refused };
	int first = 0;

	if (!user_key)
		return error_oom(err);
	for (size_t i = 0; i < HANDLERS; i++) {
		struct error e = ERROR_INIT;
		bool from_user = s->door_of[handler_classes[i]->section] == DOOR_USER_DATA;
		int r;

		if (may_come_back(d, s, handler_classes[i]->section))
			continue;
		r = d->slots[i].class->apply(d->slots[i].handler, from_user ? &user : &goal, &e);
		if (r < 0) {
			log_for(LOG_LEVEL_ERROR, (.handler = handler_classes[i]->name), "%s", e.msg);
			if (first == 0) {
				first = r;
				*err = e;
			}
		}
	}
	return first;
}

/* The former settings live until every handler has let go of them. */
int daemon_put_in_force(struct daemon *d, struct settings *s, struct error *err)
{
	struct settings former = d->settings;
	bool had = d->have_settings;
	int r, h;

	d->settings = *s;
	d->have_settings = true;
	*s = (struct settings){ 0 };
	apply_log(d, &d->settings);
	r = apply_network(d, &d->settings, err);
	health_apply(d->health, &d->settings);
	telemetry_apply(d->telemetry, &d->settings);
	notifier_apply(d->notifier, &d->settings);
	h = apply_handlers(d, &d->settings, err);
	if (had)
		settings_done(&former);
	return r < 0 ? r : h;
}

/* Settings of user data never stand in the way of the others: where they are refused, those count alone. */
static int load_with_stored(struct daemon *d, const struct documents *docs, struct settings *s, struct error *err)
{
	struct settings_source sources[DOCUMENTS_SOURCES];
	struct error why = ERROR_INIT;
	int r;

	if (docs->user.documents.n) {
		r = settings_load(sources, documents_sources(docs, &docs->user, sources), s, &d->report, &why);
		if (r >= 0 || r == -ENOMEM) {
			*err = why;
			return r;
		}
		jd_report_done(&d->report);
	}
	r = settings_load(sources, documents_sources(docs, NULL, sources), s, &d->report, err);
	if (r >= 0 && why.msg[0]) {
		log_for(LOG_LEVEL_WARNING, (.handler = "userData"), "settings in user data are no longer in force: %s", why.msg);
		if (str_set(&d->user_data_refused, why.msg) < 0)
			return error_oom(err);
	}
	return r;
}

int daemon_load_documents(struct daemon *d, const struct goal_request *g, const struct user_settings *offered, struct settings *s,
			  char **ret_key, struct error *err)
{
	_cleanup_(documents_done) struct documents docs = { 0 };
	struct settings_source sources[DOCUMENTS_SOURCES];
	char hash[SHA256_HEX_MAX];
	struct error e = ERROR_INIT;
	int r;

	jd_report_done(&d->report);
	r = documents_read(&d->paths, g, &docs, err);
	if (r >= 0)
		r = documents_key(g, &docs, ret_key, err);
	if (r < 0)
		return r;
	if (offered)
		return settings_load(sources, documents_sources(&docs, offered, sources), s, &d->report, err);
	free(TAKE_PTR(d->user_data_refused));
	d->user_settings_lost = user_settings_read(&d->paths, &docs.user, &e) < 0;
	if (d->user_settings_lost)
		log_warning("%s; the settings of user data come back with the next look", e.msg);
	r = user_settings_hash(&docs.user, hash, err);
	if (r >= 0 && str_set(&d->user_key, hash) < 0)
		r = error_oom(err);
	return r < 0 ? r : load_with_stored(d, &docs, s, err);
}

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
		log_warning("the settings in force before cannot be used: %s", e.msg);
		settings_done(&s);
		s = (struct settings){ 0 };
	}
	free(d->key);
	d->key = TAKE_PTR(key);
	if (daemon_put_in_force(d, &s, &e) < 0)
		log_error("%s", e.msg);
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
	say(d, late ? STATUS_ERROR : STATUS_TRANSITIONING, late ? DUTY_FAILED : DUTY_OPEN, late ? CODE_NO_CERTIFICATE : CODE_NONE,
	    why->msg);
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
	say_rejected(d, why, code ? code : CODE_BAD_CONFIGURATION);
	restore_former(d);
	return 0;
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
		say(d, STATUS_ERROR, DUTY_FAILED, CODE_INTERNAL, e.msg);
	else if (deployment_refused(d->deployments))
		say(d, STATUS_ERROR, DUTY_FAILED, CODE_INTERNAL, deployment_refused(d->deployments));
	else
		say_accepted(d);
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
	say(d, STATUS_ERROR, DUTY_NONE, CODE_INTERNAL, why->msg);
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
	if (!d->have_goal && (str_set(&d->goal.sequence, "") < 0 || str_set(&d->goal.installation, "files") < 0))
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
