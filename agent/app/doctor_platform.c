/* Checks of what the platform brings: metadata service, Azure Linux Agent, cloud-init, and other programs that acknowledge. */
#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/app/doctor_private.h"
#include "agent/app/installation.h"
#include "agent/azure/imds.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/str.h"
#include "agent/io/bus.h"
#include "handlers/common/cloud_init.h"

#define SMALL_FILE   (256UL * 1024)
#define AGENT_MODULE "/usr/lib/python3*/*-packages/azurelinuxagent/common/version.py"

/* ---- metadata service ---- */

static const char *advice_on(int code)
{
	switch (code) {
	case -ENETUNREACH:
	case -EHOSTUNREACH:
		return "bring up the primary network interface, with the route that DHCP gives: ip route get 169.254.169.254";
	case -EACCES:
		return "let the service through: a prohibit route (ip route get 169.254.169.254) or a firewall rule (nft list ruleset, "
		       "iptables -S OUTPUT) forbids it";
	case -ECONNREFUSED:
		return "look for a firewall rule that rejects it (nft list ruleset, iptables -S OUTPUT)";
	case -ETIMEDOUT:
		return "look for a firewall rule that drops it, and for another interface that takes the route";
	default:
		return NULL;
	}
}

static void on_instance(const struct imds_instance *i, const struct imds_failure *failure, void *userdata)
{
	struct doctor_probe *p = userdata;

	if (i)
		doctor_tell_probe(p, VERDICT_OK, NULL, "it answers: this is %s%s%s", i->name,
				  str_empty(i->location) ? "" : " in ", i->location ? i->location : "");
	else
		doctor_tell_probe(p, VERDICT_ERROR, advice_on(failure->err.code), "%s", failure->err.msg);
	doctor_probe_over(p);
}

void doctor_check_imds(struct doctor *d)
{
	struct doctor_probe *p = doctor_probe_new(d, "the metadata service");
	struct error e = ERROR_INIT;

	if (p && imds_get_instance(d->http, on_instance, p, &p->imds, &e) < 0) {
		doctor_tell(d, VERDICT_ERROR, NULL, "%s", e.msg);
		doctor_probe_over(p);
	}
}

/* ---- systemd's own metadata service ---- */

#define LOCK_OPTION "systemd.imds.network="

/* The file below our root if it is there (tests), else the machine's. */
static int read_small(const struct doctor *d, const char *path, struct buf *out)
{
	_cleanup_free_ char *real = path_under_root(d->paths, path);

	return fs_read(real && fs_exists(real) ? real : path, SMALL_FILE, out, NULL);
}

/* The last word counts. /proc/cmdline has no size, so it is not read as a regular file of one. */
static bool locked_by_kernel(const struct doctor *d)
{
	_cleanup_buf_ struct buf line = BUF_INIT(SMALL_FILE);
	const char *last = NULL;

	if (read_small(d, "/proc/cmdline", &line) < 0)
		return false;
	for (const char *at = buf_str(&line); (at = strstr(at, LOCK_OPTION)); at += strlen(LOCK_OPTION))
		last = at + strlen(LOCK_OPTION);
	return last && strncmp(last, "locked", 6) == 0 && (!last[6] || strchr(" \t\n", last[6]));
}

/* A drop-in of the administrator that starts systemd's service so. Heap, or NULL. */
static char *locked_by_dropin(const struct doctor *d)
{
	_cleanup_free_ char *pattern = path_under_root(d->paths, "/etc/systemd/system/systemd-imds*.d/*.conf");
	char *found = NULL;
	glob_t files = { 0 };

	if (pattern && glob(pattern, 0, NULL, &files) == 0)
		for (size_t i = 0; i < files.gl_pathc && !found; i++) {
			_cleanup_buf_ struct buf text = BUF_INIT(SMALL_FILE);

			if (fs_read(files.gl_pathv[i], SMALL_FILE, &text, NULL) == 0 &&
			    (strstr(buf_str(&text), "network=locked") || strstr(buf_str(&text), "NETWORK=locked")))
				found = strdup(files.gl_pathv[i]);
		}
	globfree(&files);
	return found;
}

void doctor_check_imds_lock(struct doctor *d)
{
	_cleanup_free_ char *dropin = locked_by_dropin(d);

	if (locked_by_kernel(d))
		doctor_tell(d, VERDICT_ERROR, NULL,
			    LOCK_OPTION
			    "locked on the kernel's command line: only systemd reaches the metadata service");
	else if (dropin)
		doctor_tell(d, VERDICT_ERROR, "remove the drop-in, then: systemctl daemon-reload, and reboot",
			    "%s locks the metadata service: only systemd reaches it", dropin);
	else
		doctor_tell(d, VERDICT_OK, NULL, "systemd does not lock the metadata service");
}

/* ---- the Azure Linux Agent ---- */

/* "…/WALinuxAgent-2.15.0.1" or a line AGENT_VERSION = '2.7.3.0' */
struct version {
	unsigned n[4];
};

static bool parse_version(const char *text, struct version *ret)
{
	struct version v = { { 0 } };

	if (sscanf(text, "%u.%u.%u.%u", &v.n[0], &v.n[1], &v.n[2], &v.n[3]) < 2)
		return false;
	*ret = v;
	return true;
}

static bool is_newer(const struct version *a, const struct version *b)
{
	for (size_t i = 0; i < ARRAY_SIZE(a->n); i++)
		if (a->n[i] != b->n[i])
			return a->n[i] > b->n[i];
	return false;
}

/* A newer one that it has fetched for itself runs instead of what the distribution has installed. */
static bool agent_version(const struct doctor *d, struct version *ret)
{
	_cleanup_free_ char *fetched = str_format("%s/WALinuxAgent-*", d->paths->waagent),
			    *installed = path_under_root(d->paths, AGENT_MODULE);
	struct version v, best = { { 0 } };
	glob_t found = { 0 };

	if (fetched && glob(fetched, 0, NULL, &found) == 0)
		for (size_t i = 0; i < found.gl_pathc; i++)
			if (parse_version(strrchr(found.gl_pathv[i], '-') + 1, &v) && is_newer(&v, &best))
				best = v;
	globfree(&found);
	found = (glob_t){ 0 };
	if (installed && glob(installed, 0, NULL, &found) == 0)
		for (size_t i = 0; i < found.gl_pathc; i++) {
			_cleanup_buf_ struct buf text = BUF_INIT(SMALL_FILE);
			const char *at = fs_read(found.gl_pathv[i], SMALL_FILE, &text, NULL) < 0
						 ? NULL
						 : strstr(buf_str(&text), "\nAGENT_VERSION = '");

			if (at && parse_version(at + strlen("\nAGENT_VERSION = '"), &v) && is_newer(&v, &best))
				best = v;
		}
	globfree(&found);
	*ret = best;
	return best.n[0];
}

/* The value of a line "NAME=VALUE" is "n". */
static bool switched_off(const struct doctor *d, const char *name)
{
	_cleanup_free_ char *path = path_under_root(d->paths, "/etc/waagent.conf");
	_cleanup_buf_ struct buf text = BUF_INIT(SMALL_FILE);
	bool off = false;
	char *rest;

	if (!path || fs_read(path, SMALL_FILE, &text, NULL) < 0)
		return false;
	rest = text.data;
	for (char *line; rest && (line = strsep(&rest, "\n"));)
		if (str_starts(line, name) && line[strlen(name)] == '=')
			off = line[strlen(name) + 1] == 'n' || line[strlen(name) + 1] == 'N';
	return off;
}

static void on_agent_state(const struct unit_state *s, void *userdata)
{
	struct doctor_probe *p = userdata;

	if (s->result >= 0 && str_equal(s->load, "loaded")) {
		if (str_equal(s->active, "active"))
			doctor_tell_probe(p, VERDICT_OK, NULL, "%s is active", p->subject);
		else
			doctor_tell_probe(p, VERDICT_WARNING, NULL, "%s is %s", p->subject, s->active);
	}
	doctor_probe_over(p);
}

static void ask_agent_unit(struct doctor *d, const char *unit)
{
	struct doctor_probe *p = d->bus ? doctor_probe_new(d, unit) : NULL;

	if (p && unit_get_state(d->bus, unit, on_agent_state, p, &p->bus, NULL) < 0)
		doctor_probe_over(p);
}

void doctor_check_agent(struct doctor *d)
{
	_cleanup_(owner_done) struct owner owner = { 0 };
	bool needed = owner_read(d->paths, &owner, NULL) == 0 && str_equal(owner.kind, "extension");
	struct version v;

	ask_agent_unit(d, "walinuxagent.service");
	ask_agent_unit(d, "waagent.service");
	if (needed && switched_off(d, "Extensions.Enabled"))
		doctor_tell(d, VERDICT_ERROR, "set Extensions.Enabled=y in /etc/waagent.conf, and restart the agent",
			    "/etc/waagent.conf switches extensions off");
	else if (!fs_is_dir(d->paths->waagent))
		doctor_tell(d, needed ? VERDICT_ERROR : VERDICT_NOTE, NULL, "the Azure Linux Agent is not installed");
	else if (!agent_version(d, &v))
		doctor_tell(d, VERDICT_NOTE, "waagent --version tells it",
			    "the Azure Linux Agent's version is not known");
	else if (switched_off(d, "AutoUpdate.Enabled"))
		doctor_tell(d, VERDICT_NOTE, "set AutoUpdate.Enabled=y in /etc/waagent.conf",
			    "version %u.%u.%u.%u, which does not update itself", v.n[0], v.n[1], v.n[2], v.n[3]);
	else
		doctor_tell(d, VERDICT_OK, NULL, "version %u.%u.%u.%u", v.n[0], v.n[1], v.n[2], v.n[3]);
}

/* ---- cloud-init ---- */

struct result_stage {
	struct jd_list errors; /* of char * */
};

struct result_document {
	struct result_stage v1;
};

static const struct jd_type text = { .kind = JD_TEXT };
static const struct jd_type texts = { .kind = JD_LIST, .element = &text };
static const struct jd_field stage_fields[] = { { "errors", &texts, offsetof(struct result_stage, errors), 0 },
						{ NULL } };
static const struct jd_type stage_type = { .kind = JD_OBJECT,
					   .fields = stage_fields,
					   .size = sizeof(struct result_stage) };
static const struct jd_field result_fields[] = { { "v1", &stage_type, offsetof(struct result_document, v1), 0 },
						 { NULL } };
static const struct jd_type result_type = { .kind = JD_OBJECT,
					    .fields = result_fields,
					    .size = sizeof(struct result_document) };

static void result_done(struct result_document *r)
{
	jd_free(&result_type, r);
}

void doctor_check_cloud_init(struct doctor *d)
{
	_cleanup_free_ char *path = path_under_root(d->paths, "/run/cloud-init/result.json");
	_cleanup_(result_done) struct result_document r = { 0 };
	_cleanup_buf_ struct buf json = BUF_INIT(SMALL_FILE);

	enum cloud_init_stage stage = cloud_init_look(d->paths);

	if (stage == CLOUD_INIT_RUNNING || stage == CLOUD_INIT_UNKNOWN)
		doctor_tell(d, VERDICT_WARNING, NULL,
			    "cloud-init is not done with this boot: scripts that wait for it wait");
	else if (!path || fs_read(path, SMALL_FILE, &json, NULL) < 0)
		doctor_tell(d, VERDICT_OK, NULL, "cloud-init is not in use");
	else if (jd_decode_document(buf_str(&json), json.len, "result.json", SMALL_FILE, &result_type, &r, NULL) < 0)
		doctor_tell(d, VERDICT_NOTE, NULL, "%s cannot be understood", path);
	else if (r.v1.errors.n)
		doctor_tell(d, VERDICT_WARNING, NULL, "cloud-init ended with %zu error%s", r.v1.errors.n,
			    r.v1.errors.n == 1 ? "" : "s");
	else
		doctor_tell(d, VERDICT_OK, NULL, "cloud-init is done, without errors");
}

/* ---- others that acknowledge ---- */

/* Programs and units by name; a process is one if its program or what an interpreter runs is called so. */
static const struct {
	const char *name, *unit;
} rivals[] = {
	{ "azure-scheduledevents-manager", "azure-scheduledevents-manager.service" },
	{ "azure-events-az", NULL }, /* ClusterLabs' resource agent */
	{ "azure-events", NULL },
	{ "drainsafe", "drainsafe.service" },
	{ "aks-node-termination-handler", NULL },
	{ "scheduledEventsListener.py", NULL },
};

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* What it is given first is then the program. */
static bool is_interpreter(const char *program)
{
	static const char *const names[] = { "python", "bash", "dash", "sh", "node", "perl", "ruby" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (str_starts(program, names[i]))
			return true;
	return false;
}

static bool on_process(int pid, char *const *argv, void *userdata)
{
	const char *program = last_part(argv[0]);
	struct doctor *d = userdata;

	if (argv[1] && is_interpreter(program))
		program = last_part(argv[1]);
	for (size_t i = 0; i < ARRAY_SIZE(rivals); i++)
		if (str_equal(program, rivals[i].name))
			doctor_tell(d, VERDICT_WARNING, NULL, "%s runs (process %d): it handles Scheduled Events, too",
				    rivals[i].name, pid);
	return false;
}

static void on_rival_state(const struct unit_state *s, void *userdata)
{
	struct doctor_probe *p = userdata;

	if (s->result >= 0 && (str_equal(s->active, "active") || str_equal(s->file_state, "enabled")))
		doctor_tell_probe(p, VERDICT_WARNING, NULL, "%s is %s: it handles Scheduled Events, too", p->subject,
				  str_equal(s->active, "active") ? "active" : "enabled");
	doctor_probe_over(p);
}

void doctor_check_rivals(struct doctor *d)
{
	size_t before = d->findings.n;

	for (size_t i = 0; d->bus && i < ARRAY_SIZE(rivals); i++) {
		struct doctor_probe *p = rivals[i].unit ? doctor_probe_new(d, rivals[i].unit) : NULL;

		if (p && unit_get_state(d->bus, rivals[i].unit, on_rival_state, p, &p->bus, NULL) < 0)
			doctor_probe_over(p);
	}
	doctor_each_process(on_process, d);
	if (d->findings.n == before)
		doctor_tell(d, VERDICT_OK, NULL, "no process of another program that acknowledges events");
}
