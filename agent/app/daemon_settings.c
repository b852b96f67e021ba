/* The settings: read from all their doors, put in force, and what is told of them. */
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

/* ---- reading ---- */

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
	_cleanup_free_ char *files_key = NULL;
	struct settings_source sources[DOCUMENTS_SOURCES];
	char hash[SHA256_HEX_MAX];
	struct error e = ERROR_INIT;
	int r;

	jd_report_done(&d->report);
	r = documents_read(&d->paths, g, &docs, err);
	if (r >= 0)
		r = documents_key(g, &docs, ret_key, err);
	if (r >= 0)
		r = documents_files_key(&docs, &files_key, err);
	if (r < 0)
		return r;
	free(d->files_key);
	d->files_key = TAKE_PTR(files_key);
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

/* ---- in force ---- */

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
	/* The same of one that stands in files: what has been done for it stays done, whatever extension comes or goes. */
	const struct handler_goal files = { .settings = s,
					    .sequence = goal.sequence,
					    .key = d->files_key,
					    .user_data_refused = d->user_data_refused };
	int first = 0;

	if (!user_key)
		return error_oom(err);
	for (size_t i = 0; i < HANDLERS; i++) {
		struct error e = ERROR_INIT;
		int door = s->door_of[handler_classes[i]->section];
		const struct handler_goal *g = door == DOOR_USER_DATA ? &user : door == DOOR_FILES ? &files : &goal;
		int r;

		if (may_come_back(d, s, handler_classes[i]->section))
			continue;
		r = d->slots[i].class->apply(d->slots[i].handler, g, &e);
		if (r < 0) {
			log_for(LOG_LEVEL_ERROR, (.handler = handler_classes[i]->name), "the settings of %s cannot be applied: %s",
				handler_classes[i]->name, e.msg);
			if (first == 0) {
				first = r;
				*err = e;
			}
		}
	}
	return first;
}

/* One endpoint for both: the readiness listener answers. */
static void apply_endpoints(struct daemon *d, const struct settings *s)
{
	const struct health_settings *h = s->health;
	const char *readiness = h && !str_empty(h->listen) ? h->listen : NULL;
	const char *metrics = h && !str_empty(h->metrics_listen) && !str_equal(h->metrics_listen, readiness) ? h->metrics_listen : NULL;

	endpoints_apply(d->endpoints, (const char *const[]){ [ENDPOINT_READINESS] = readiness, [ENDPOINT_METRICS] = metrics });
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
	apply_endpoints(d, &d->settings);
	health_apply(d->health, &d->settings);
	telemetry_apply(d->telemetry, &d->settings);
	notifier_apply(d->notifier, &d->settings);
	h = apply_handlers(d, &d->settings, err);
	if (had)
		settings_done(&former);
	return r < 0 ? r : h;
}

/* ---- what is told of them ---- */

void daemon_say_settings(struct daemon *d, enum status_level level, enum duty duty, int code, const char *message)
{
	if (str_set(&d->settings_message, message) < 0)
		return;
	d->settings_component = (struct component){ .name = "settings",
						    .level = level,
						    .duty = duty,
						    .code = code,
						    .message = d->settings_message };
}

void daemon_say_rejected(struct daemon *d, const struct error *e, int code)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_STATUS_MESSAGE);

	for (unsigned i = 0; i < d->report.n_errors; i++)
		if (buf_printf(&text, "%s%s", i ? "\n" : "", d->report.errors[i]) < 0)
			break;
	if (d->report.n_errors_found > d->report.n_errors)
		(void)buf_printf(&text, "\nand %u more", d->report.n_errors_found - d->report.n_errors);
	daemon_say_settings(d, STATUS_ERROR, DUTY_FAILED, code, d->report.n_errors ? buf_str(&text) : e->msg);
	log_for(LOG_LEVEL_ERROR, (.handler = "settings", .sequence = d->goal.sequence), "%s", d->settings_message);
}

void daemon_say_accepted(struct daemon *d)
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
	daemon_say_settings(d, d->report.n_warnings ? STATUS_WARNING : STATUS_SUCCESS, DUTY_DONE, CODE_NONE, buf_str(&text));
}
