/* Checks of the settings: that they are valid, that their secrets are kept well, and what they had installed. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/app/cli_certs.h"
#include "agent/app/doctor_private.h"
#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/core/exit_codes.h"
#include "handlers/common/handler.h"

static int load(struct doctor *d, const struct goal_request *g, struct jd_report *report, struct error *err)
{
	_cleanup_(documents_done) struct documents docs = { 0 };
	int r = documents_read(d->paths, g, &docs, err);

	if (r >= 0)
		r = user_settings_read(d->paths, &docs.user, err);
	return r < 0 ? r : documents_load(&docs, &d->settings, report, &d->user_refused, err);
}

/* As after a start with settings that are refused: those accepted before are in force. */
static void load_former(struct doctor *d)
{
	_cleanup_(goal_request_done) struct goal_request former = { 0 };
	_cleanup_(jd_report_done) struct jd_report report = { 0 };
	struct error e = ERROR_INIT;

	d->former = goal_in_force_read(d->paths, &former, &e) == 0 && load(d, &former, &report, &e) >= 0;
}

void doctor_load_settings(struct doctor *d)
{
	struct error e = ERROR_INIT;
	int r = goal_request_read(d->paths, &d->goal, &e);

	d->have_goal = r >= 0;
	if (r >= 0 || r == -ENOENT)
		r = load(d, &d->goal, &d->report, &e);
	if (r < 0) {
		d->refused = e;
		settings_done(&d->settings);
		d->settings = (struct settings){ 0 };
		load_former(d);
	}
}

static void tell_sections(struct doctor *d)
{
	_cleanup_buf_ struct buf list = BUF_INIT(LIMIT_STATUS_MESSAGE);
	const void *const present[_SECTION_MAX] = {
		[SECTION_CUSTOM_SCRIPT] = d->settings.custom_script,
		[SECTION_KEY_REFRESH] = d->settings.key_refresh,
		[SECTION_DRAIN] = d->settings.drain,
		[SECTION_USER_DATA] = d->settings.user_data,
		[SECTION_HEALTH] = d->settings.health,
		[SECTION_NOTIFY] = d->settings.notify,
		[SECTION_NETWORK] = d->settings.network,
		[SECTION_LOG] = d->settings.log,
	};

	for (enum settings_section s = 0; s < _SECTION_MAX; s++)
		if (present[s])
			(void)buf_printf(&list, "%s%s", list.len ? ", " : "", settings_section_name(s));
	if (list.len)
		doctor_tell(d, VERDICT_OK, NULL, "valid: %s", buf_str(&list));
	else
		doctor_tell(d, VERDICT_NOTE, "put settings into the extension, or into /etc/evenkeel/evenkeel.json",
			    "nothing is configured");
}

void doctor_check_settings(struct doctor *d)
{
	struct error e = ERROR_INIT;

	for (unsigned i = 0; i < d->report.n_errors; i++)
		doctor_tell(d, VERDICT_ERROR, NULL, "%s", d->report.errors[i]);
	if (d->refused.code && !d->report.n_errors)
		doctor_tell(d, d->refused.cls == ERROR_TRANSIENT ? VERDICT_WARNING : VERDICT_ERROR, NULL, "%s",
			    d->refused.msg);
	if (d->former)
		doctor_tell(d, VERDICT_NOTE, "what follows is about those",
			    "the settings that were accepted before are in force");
	if (d->user_refused.msg[0])
		doctor_tell(d, VERDICT_WARNING, "correct the user data", "settings in user data are not in force: %s",
			    d->user_refused.msg);
	if (drain_class.check(d->paths, &d->settings, &e) < 0)
		doctor_tell(d, VERDICT_ERROR, "install what is missing, or change drain.steps", "%s", e.msg);
	for (unsigned i = 0; i < d->report.n_warnings; i++)
		doctor_tell(d, VERDICT_WARNING, NULL, "%s", d->report.warnings[i]);
	if (!d->refused.code)
		tell_sections(d);
}

void doctor_check_secrets(struct doctor *d)
{
	_cleanup_free_ char *path = path_join(d->paths->etc, "secrets.json");
	struct stat st;

	if (!path) {
		d->oom = true;
	} else if (lstat(path, &st) < 0) {
		if (errno == ENOENT)
			doctor_tell(d, VERDICT_OK, NULL, "there is no file of secrets");
		else
			doctor_tell(d, VERDICT_ERROR, NULL, "%s: %s", path, strerror(errno));
	} else if (!S_ISREG(st.st_mode)) {
		doctor_tell(d, VERDICT_ERROR, "make it a regular file", "%s is not a regular file", path);
	} else if (st.st_mode & 077) {
		doctor_tell(d, VERDICT_ERROR, NULL, "%s has mode %04o: others than root can read or change the secrets",
			    path, st.st_mode & 07777u);
	} else if (st.st_uid != 0 && st.st_uid != geteuid()) {
		doctor_tell(d, VERDICT_ERROR, NULL, "%s belongs to user %u", path, st.st_uid);
	} else {
		doctor_tell(d, VERDICT_OK, NULL, "%s is root's alone", path);
	}
}

/* ---- what was installed ---- */

static void view_done(struct key_view *v)
{
	jd_free(&key_view_type, v);
}

static void on_certificate(const char *name, int code, const char *text, void *userdata)
{
	doctor_tell(userdata,
		    code == EXIT_OK	  ? VERDICT_OK
		    : code == EXIT_FAILED ? VERDICT_ERROR
					  : VERDICT_WARNING,
		    NULL, "%s: %s", name, text);
}

void doctor_check_certificates(struct doctor *d)
{
	_cleanup_(view_done) struct key_view v = { 0 };
	struct error e = ERROR_INIT;

	if (certs_load_records(d->paths, &v, &e) < 0)
		doctor_tell(d, VERDICT_ERROR, NULL, "%s", e.msg);
	else if (!v.items.n)
		doctor_tell(d, VERDICT_OK, NULL, "the service was asked to install none");
	else
		(void)certs_check(&v, on_certificate, d);
}
