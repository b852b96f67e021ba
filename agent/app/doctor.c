/* The doctor's table of checks, and how they are run. */
#include "agent/app/doctor.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/app/doctor_private.h"
#include "agent/azure/blob_client.h"
#include "agent/azure/identity.h"
#include "agent/azure/imds.h"
#include "agent/azure/keyvault.h"
#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/core/exit_codes.h"
#include "agent/io/bus.h"
#include "agent/io/local_client.h"
#include "agent/io/loop.h"
#include "generated/version.h"

#define TEXT_MAX 1000

/* Their order is the order of the report: what others depend on comes first. */
/* clang-format off */
static const struct doctor_check checks[] = {
	{ "service", "the service holds its lock and answers with its version",
	  "systemctl status evenkeel.service, journalctl -u evenkeel.service", doctor_check_service },
	{ "settings", "the newest settings are read and judged as the service does it",
	  "correct the settings; evenkeel validate FILE shows every message", doctor_check_settings },
	{ "secrets", "owner and mode of /etc/evenkeel/secrets.json",
	  "chown root: and chmod 600 the file", doctor_check_secrets },
	{ "imds", "one request for instance metadata, never for Scheduled Events",
	  "check the route to 169.254.169.254 and the rules of the machine's firewall", doctor_check_imds },
	{ "imds-lock", "systemd.imds.network= on the kernel's command line and in drop-ins of systemd's own metadata service",
	  "set systemd.imds.network=unlocked, and reboot", doctor_check_imds_lock },
	{ "proxy", "proxy variables in the service's environment",
	  "set network.proxy and network.noProxy in the settings, if the VM needs a proxy", doctor_check_proxy },
	{ "authorities", "network.caFile is there and holds certificates",
	  "correct network.caFile, or leave it out for the system's own authorities", doctor_check_authorities },
	{ "clock", "the Date that vaults and storage answer with, and the kernel's own word",
	  "start a time service: systemctl enable --now chrony.service, or systemd-timesyncd.service", doctor_check_clock },
	{ "hosts", "one request without rights to every vault and storage account of the settings",
	  "check the way out: network security group, firewall, network.proxy", doctor_check_hosts },
	{ "identities", "a token for each identity and service of the settings",
	  "assign the identity to the VM or scale set", doctor_check_identities },
	{ "vaults", "each secret is read as it would be installed",
	  "give the identity the role Key Vault Secrets User on the vault", doctor_check_vaults },
	{ "blobs", "the first byte of each file in blob storage is read with the right of the settings",
	  "give the identity the role Storage Blob Data Reader on the storage account", doctor_check_blobs },
	{ "agent", "version and configuration of the Azure Linux Agent, state of its unit",
	  "install or start the agent: systemctl enable --now walinuxagent.service (or waagent.service)", doctor_check_agent },
	{ "cloud-init", "its result of this boot",
	  "cloud-init status --long", doctor_check_cloud_init },
	{ "rivals", "processes and units of other programs that acknowledge Scheduled Events",
	  "let one program acknowledge: stop and disable the other, or set acknowledge to never in drain.policy", doctor_check_rivals },
	{ "systemd", "the version of systemd's shared library",
	  "use a distribution with systemd 249 or newer", doctor_check_systemd },
	{ "noexec", "mount options of where programs, scripts and hooks are",
	  "mount it without noexec: scripts and the agent itself are run from there", doctor_check_noexec },
	{ "selinux", "SELinux's mode, and the label of the binary that systemd starts",
	  "restorecon -R -v /usr/local/libexec/evenkeel", doctor_check_selinux },
	{ "space", "free bytes and inodes where state, logs and sockets are",
	  "make room: df -h, df -i", doctor_check_space },
	{ "packages", "locks that package managers hold",
	  "if it stays so, look who holds it: fuser -v FILE", doctor_check_packages },
	{ "permissions", "owner and mode of everything the agent wrote, and of its settings",
	  "restore owner and mode, and find out who changed them", doctor_check_permissions },
	{ "certificates", "what was installed: files, owners, who may read them, expiry",
	  "evenkeel certs check tells the same; evenkeel certs refresh installs anew", doctor_check_certificates },
	{ "logind", "logind's longest delay against drain.shutdown",
	  "restart the service, which writes its drop-in, or remove the drop-in that overrides it", doctor_check_logind },
	{ "hooks", "owner and mode of hook directories and their files",
	  "chown root: and chmod 755 the file", doctor_check_hooks },
	{ "units", "units that the settings name are known to systemd",
	  "correct the name, or install the unit; systemctl list-unit-files", doctor_check_units },
};
/* clang-format on */

const struct doctor_check *doctor_checks(size_t *ret_n)
{
	*ret_n = ARRAY_SIZE(checks);
	return checks;
}

/* ---- the report as a document ---- */

static const char *const verdicts[] = { "ok", "note", "warning", "error", NULL };
static const struct jd_type text = { .kind = JD_TEXT };
static const struct jd_type verdict_type = { .kind = JD_CHOICE, .names = verdicts };

/* clang-format off */
static const struct jd_field finding_fields[] = {
	{ "check",   &text,         offsetof(struct finding, check),   JD_REQUIRED },
	{ "verdict", &verdict_type, offsetof(struct finding, verdict), JD_REQUIRED },
	{ "found",   &text,         offsetof(struct finding, found),   JD_REQUIRED },
	{ "advice",  &text,         offsetof(struct finding, advice),  0 },
	{ NULL },
};
static const struct jd_type finding_type = { .kind = JD_OBJECT, .fields = finding_fields, .size = sizeof(struct finding) };
static const struct jd_type findings_type = { .kind = JD_LIST, .element = &finding_type };
static const struct jd_field report_fields[] = {
	{ "version",  &text,          offsetof(struct doctor_report, version),  JD_REQUIRED },
	{ "worst",    &verdict_type,  offsetof(struct doctor_report, worst),    JD_REQUIRED },
	{ "findings", &findings_type, offsetof(struct doctor_report, findings), JD_REQUIRED },
	{ NULL },
};
static const struct jd_type report_type = { .kind = JD_OBJECT, .fields = report_fields, .size = sizeof(struct doctor_report) };
/* clang-format on */

const char *verdict_name(enum verdict v)
{
	return verdicts[v];
}

void doctor_report_done(struct doctor_report *r)
{
	jd_free(&report_type, r);
}

int doctor_encode(const struct doctor_report *r, struct buf *out)
{
	return jd_encode(&report_type, r, true, out);
}

int doctor_exit_code(const struct doctor_report *r)
{
	return r->worst == VERDICT_ERROR ? EXIT_TROUBLE : r->worst == VERDICT_WARNING ? EXIT_ATTENTION : EXIT_OK;
}

/* ---- findings ---- */

static int add_finding(struct doctor *d, const struct finding *f)
{
	struct finding *list = d->findings.items;

	if (d->findings.n == d->findings_room) {
		size_t room = d->findings_room ? 2 * d->findings_room : 64;

		list = reallocarray(list, room, sizeof(*list));
		if (!list)
			return -ENOMEM;
		d->findings.items = list;
		d->findings_room = room;
	}
	list[d->findings.n++] = *f;
	return 0;
}

static void tell(struct doctor *d, const struct doctor_check *check, enum verdict v, const char *advice,
		 const char *fmt, va_list ap) _printf_(5, 0);

static void tell(struct doctor *d, const struct doctor_check *check, enum verdict v, const char *advice,
		 const char *fmt, va_list ap)
{
	struct finding f = { .verdict = (int)v };
	char found[TEXT_MAX];

	(void)vsnprintf(found, sizeof(found), fmt, ap);
	found[utf8_cut(found, strlen(found), sizeof(found) - 1)] = '\0';
	if (str_set(&f.check, check->name) < 0 || str_set(&f.found, found) < 0 ||
	    (v != VERDICT_OK && str_set(&f.advice, advice ? advice : check->advice) < 0) || add_finding(d, &f) < 0) {
		jd_free(&finding_type, &f);
		d->oom = true;
	}
}

void doctor_tell(struct doctor *d, enum verdict v, const char *advice, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	tell(d, d->check, v, advice, fmt, ap);
	va_end(ap);
}

void doctor_tell_probe(struct doctor_probe *p, enum verdict v, const char *advice, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	tell(p->doctor, p->check, v, advice, fmt, ap);
	va_end(ap);
}

static size_t order_of(const struct finding *f)
{
	size_t i = 0;

	while (i < ARRAY_SIZE(checks) && !str_equal(checks[i].name, f->check))
		i++;
	return i;
}

/* By check; within one, as they came. */
static void sort_findings(struct doctor *d)
{
	struct finding *list = d->findings.items;

	for (size_t i = 1; i < d->findings.n; i++)
		for (size_t k = i; k && order_of(&list[k - 1]) > order_of(&list[k]); k--) {
			struct finding f = list[k];

			list[k] = list[k - 1];
			list[k - 1] = f;
		}
}

/* ---- probes ---- */

struct doctor_probe *doctor_probed(const struct doctor *d, const char *subject)
{
	struct doctor_probe *p = d->probes;

	while (p && (p->check != d->check || !str_equal(p->subject, subject)))
		p = p->next;
	return p;
}

struct doctor_probe *doctor_probe_new(struct doctor *d, const char *subject)
{
	struct doctor_probe *p;
	size_t n = 0;

	for (p = d->probes; p; p = p->next)
		n += p->check == d->check;
	if (n == DOCTOR_PROBES_MAX)
		return NULL;
	p = calloc(1, sizeof(*p));
	if (!p || str_set(&p->subject, subject) < 0) {
		free(p);
		d->oom = true;
		return NULL;
	}
	p->doctor = d;
	p->check = d->check;
	p->next = d->probes;
	d->probes = p;
	d->waiting++;
	return p;
}

void doctor_probe_over(struct doctor_probe *p)
{
	if (p->over)
		return;
	p->over = true;
	/* Before the loop runs, others may still begin. */
	if (--p->doctor->waiting == 0 && p->doctor->asking)
		loop_exit(p->doctor->loop, 0);
}

static void free_probes(struct doctor *d)
{
	for (struct doctor_probe *p = d->probes, *next; p; p = next) {
		next = p->next;
		blob_call_free(p->blob);
		blob_client_free(p->client);
		vault_call_free(p->vault);
		token_call_free(p->token);
		imds_call_free(p->imds);
		http_call_free(p->http);
		local_call_free(p->local);
		bus_call_free(p->bus);
		free(p->subject);
		free(p->needs);
		free(p);
	}
}

static void on_deadline(void *userdata)
{
	struct doctor *d = userdata;

	for (struct doctor_probe *p = d->probes; p; p = p->next)
		if (!p->over)
			doctor_tell_probe(
				p, VERDICT_WARNING, "run the doctor again; evenkeel logs tells what the service met",
				"%s: not known after %u s", p->subject, (unsigned)(DOCTOR_TOTAL_USEC / USEC_PER_SEC));
	loop_exit(d->loop, 0);
}

/* ---- the examination ---- */

static int open_network(struct doctor *d, struct error *err)
{
	const char *no_proxy[DOCUMENTS_NO_PROXY];
	struct http_options o;
	int r;

	documents_network(&d->settings, no_proxy, &o);
	r = http_new(&d->http, d->loop, &o, NULL);
	if (r < 0 && o.ca_file) {
		/* The check of the authorities tells of it; what needs none can be asked all the same. */
		o.ca_file = NULL;
		r = http_new(&d->http, d->loop, &o, err);
	}
	if (r >= 0)
		r = tokens_new(&d->tokens, d->loop, d->http, err);
	if (r >= 0 && tokens_set_root(d->tokens, d->paths->root) < 0)
		r = error_oom(err);
	return r;
}

static int examine(struct doctor *d, struct error *err)
{
	_cleanup_(loop_timer_freep) struct loop_timer *deadline = NULL;
	int r = loop_timer_new(d->loop, "doctor", on_deadline, d, &deadline);

	if (r < 0)
		return error_errno(err, r, "cannot set a timer");
	doctor_load_settings(d);
	r = open_network(d, err);
	if (r < 0)
		return r;
	if (bus_open(&d->bus, d->loop, NULL) < 0)
		d->bus = NULL; /* a container: the checks say what they do without */
	for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
		d->check = &checks[i];
		checks[i].run(d);
	}
	loop_timer_after(deadline, DOCTOR_TOTAL_USEC);
	d->asking = true;
	if (d->waiting)
		(void)loop_run(d->loop);
	return d->oom ? error_oom(err) : 0;
}

static void close_doctor(struct doctor *d)
{
	free_probes(d);
	tokens_free(d->tokens);
	http_free(d->http);
	bus_close(d->bus);
	loop_free(d->loop);
	settings_done(&d->settings);
	goal_request_done(&d->goal);
	jd_report_done(&d->report);
	jd_free(&findings_type, &d->findings);
}

int doctor_examine(const struct paths *p, struct doctor_report *ret, struct error *err)
{
	struct doctor d = { .paths = p };
	int r = loop_new(&d.loop, err);

	if (r >= 0)
		r = examine(&d, err);
	if (r >= 0 && str_set(&ret->version, EK_VERSION) < 0)
		r = error_oom(err);
	if (r >= 0) {
		const struct finding *list = d.findings.items;

		sort_findings(&d);
		for (size_t i = 0; i < d.findings.n; i++)
			if (list[i].verdict > ret->worst)
				ret->worst = list[i].verdict;
		ret->findings = d.findings;
		d.findings = (struct jd_list){ 0 };
	}
	close_doctor(&d);
	return r;
}
