/* Checks of our own service, and of the units that the settings name. */
#include <stdlib.h>
#include <string.h>

#include "agent/app/api_client.h"
#include "agent/app/doctor_private.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/str.h"
#include "agent/io/bus.h"
#include "agent/io/local_client.h"
#include "generated/version.h"

/* ---- the service ---- */

struct answer {
	char *version;
};

static const struct jd_type text = { .kind = JD_TEXT };
static const struct jd_field answer_fields[] = { { "version", &text, offsetof(struct answer, version), 0 }, { NULL } };
static const struct jd_type answer_type = { .kind = JD_OBJECT, .fields = answer_fields, .size = sizeof(struct answer) };

static void answer_done(struct answer *a)
{
	jd_free(&answer_type, a);
}

static void on_status(const struct local_answer *answer, void *userdata)
{
	_cleanup_(answer_done) struct answer a = { 0 };
	struct doctor_probe *p = userdata;

	if (answer->result < 0)
		doctor_tell_probe(p, VERDICT_ERROR, NULL, "the service runs but does not answer: %s", answer->detail);
	else if (answer->status != 200 ||
		 jd_decode_document(answer->body, answer->len, "status", LIMIT_API_REPLY, &answer_type, &a, NULL) < 0)
		doctor_tell_probe(p, VERDICT_ERROR, NULL, "the service answers with status %d", answer->status);
	else if (!str_equal(a.version, EK_VERSION))
		doctor_tell_probe(p, VERDICT_WARNING, "systemctl restart evenkeel.service",
				  "the service is version %s, this program is %s", a.version ? a.version : "?",
				  EK_VERSION);
	else
		doctor_tell_probe(p, VERDICT_OK, NULL, "version %s runs and answers", EK_VERSION);
	doctor_probe_over(p);
}

void doctor_check_service(struct doctor *d)
{
	const struct local_request req = { .socket = d->paths->api_socket,
					   .method = "GET",
					   .target = "/v1/status",
					   .timeout_usec = DOCTOR_LOCAL_USEC,
					   .max_body = LIMIT_API_REPLY };
	struct doctor_probe *p;
	struct error e = ERROR_INIT;

	if (!api_daemon_running(d->paths)) {
		doctor_tell(d, VERDICT_ERROR, NULL, "the service is not running");
		return;
	}
	p = doctor_probe_new(d, "the service");
	if (p && local_ask(d->loop, &req, on_status, p, &p->local, &e) < 0) {
		doctor_tell(d, VERDICT_ERROR, NULL, "%s", e.msg);
		doctor_probe_over(p);
	}
}

/* ---- units of the settings ---- */

static const char *const unit_directories[] = { "/etc/systemd/system",	   "/run/systemd/system",
						"/run/systemd/generator",  "/run/systemd/generator.late",
						"/run/systemd/transient",  "/usr/local/lib/systemd/system",
						"/usr/lib/systemd/system", "/lib/systemd/system" };

static bool is_file(const struct doctor *d, const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(unit_directories); i++) {
		_cleanup_free_ char *path = path_join(unit_directories[i], name),
				    *real = path ? path_under_root(d->paths, path) : NULL;

		if (real && fs_exists(real))
			return true;
	}
	return false;
}

/* Without a manager that answers: its own file, or the one of its template. */
static void look_for(struct doctor *d, const char *unit, const char *member)
{
	const char *at = strchr(unit, '@'), *dot = strrchr(unit, '.');
	_cleanup_free_ char *template = at && dot > at ? str_format("%.*s%s", (int)(at - unit + 1), unit, dot) : NULL;

	if (is_file(d, unit) || (template && is_file(d, template)))
		doctor_tell(d, VERDICT_OK, NULL, "%s of %s is there", unit, member);
	else
		doctor_tell(d, VERDICT_ERROR, NULL, "%s of %s does not exist", unit, member);
}

static void on_state(const struct unit_state *s, void *userdata)
{
	struct doctor_probe *p = userdata;

	if (s->result < 0)
		doctor_tell_probe(p, VERDICT_WARNING, NULL, "%s: %s", p->subject, s->detail);
	else if (str_equal(s->load, "loaded"))
		doctor_tell_probe(p, VERDICT_OK, NULL, "%s is %s", p->subject, s->active);
	else if (str_equal(s->load, "masked"))
		doctor_tell_probe(p, VERDICT_ERROR, "systemctl unmask it", "%s is masked", p->subject);
	else
		doctor_tell_probe(p, VERDICT_ERROR, NULL, "%s does not exist (%s)", p->subject, s->load);
	doctor_probe_over(p);
}

static void check_unit(struct doctor *d, const char *unit, const char *member)
{
	struct doctor_probe *p;
	struct error e = ERROR_INIT;

	if (!d->bus) {
		look_for(d, unit, member);
		return;
	}
	if (doctor_probed(d, unit))
		return;
	p = doctor_probe_new(d, unit);
	if (p && unit_get_state(d->bus, unit, on_state, p, &p->bus, &e) < 0) {
		doctor_tell(d, VERDICT_WARNING, NULL, "%s", e.msg);
		doctor_probe_over(p);
	}
}

static size_t check_units(struct doctor *d, const struct jd_list *units, const char *member)
{
	char *const *names = units->items;

	for (size_t i = 0; i < units->n; i++)
		check_unit(d, names[i], member);
	return units->n;
}

static size_t check_steps(struct doctor *d, const struct jd_list *list)
{
	const struct step_settings *steps = list->items;
	size_t n = 0;

	for (size_t i = 0; i < list->n; i++)
		n += check_units(d, &steps[i].units, "drain.steps") + check_steps(d, &steps[i].steps);
	return n;
}

static size_t check_activation(struct doctor *d, const struct activate_settings *a, const char *member)
{
	return check_units(d, &a->reload_units, member) + check_units(d, &a->restart_units, member);
}

void doctor_check_units(struct doctor *d)
{
	const struct settings *s = &d->settings;
	size_t n = s->drain ? check_steps(d, &s->drain->steps) : 0;

	if (s->key_refresh) {
		const struct certificate_settings *certificates = s->key_refresh->certificates.items;
		const struct key_secret_settings *secrets = s->key_refresh->secrets.items;

		for (size_t i = 0; i < s->key_refresh->certificates.n; i++)
			n += check_activation(d, &certificates[i].activate, "keyRefresh.certificates");
		for (size_t i = 0; i < s->key_refresh->secrets.n; i++)
			n += check_activation(d, &secrets[i].activate, "keyRefresh.secrets");
	}
	if (s->health && s->health->application && s->health->application->unit) {
		check_unit(d, s->health->application->unit, "health.application");
		n++;
	}
	if (!n)
		doctor_tell(d, VERDICT_OK, NULL, "the settings name no units");
}
