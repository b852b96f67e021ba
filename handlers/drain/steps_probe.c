/*
 * `refuseProbe`: an nftables table of our own that answers the platform's TCP probes, by IPv4 and by IPv6, with a reset, and
 * leaves everybody else's packets and every connection that is there alone. It is made by a confined job that runs nft with
 * CAP_NET_ADMIN and nothing else of root's power. One table serves all steps of the type: it is always made whole, in one
 * transaction, from the ports of those that are begun and not undone.
 *
 * The table lives until the machine is booted, as does the file in /run that remembers it. Whatever ends a drain without
 * undoing its steps (a lost record, restore --force), a table that no step stands for is removed: a VM that nobody drains
 * must not stay out of its pool.
 */
#include "handlers/drain/steps_private.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/io/connections.h"
#include "agent/io/paths.h"

#define TABLE	       "table inet evenkeel"
#define TABLE_JOB      "drain-table"
#define TABLE_USEC     (10 * USEC_PER_SEC)
#define AGAIN_USEC     (60 * USEC_PER_SEC)
#define BUSY_USEC      (20 * USEC_PER_MSEC)
#define RULES_MAX      (32 * 1024)
#define REFUSED	       "tcp dport @ports tcp flags & (fin|syn|rst|ack) == syn counter reject with tcp reset"

char *steps_find_nft(const struct paths *paths, struct error *err)
{
	static const char *const places[] = { "/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft", "/usr/local/sbin/nft" };

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		char *path = path_under_root(paths, places[i]);

		if (path && fs_exists(path))
			return path;
		free(path);
	}
	(void)error_set(err, ERROR_USER, -ENOENT,
			"refuseProbe needs nft, which is not installed; install the package nftables, or have the load balancer probe "
			"/ready over HTTP and use probeDown");
	return NULL;
}

/* ---- the rules ---- */

/* Ports of all steps that are begun and not being undone; the number of them. */
static size_t put_ports(const struct drain_state *state, struct buf *b)
{
	size_t n = 0;

	for (size_t i = 0; state->plan && i < state->ledger.n; i++) {
		const struct ledger_entry *e = drain_state_step(state, i);
		const struct step_settings *s = &drain_plan_step(state->plan, i)->settings;
		const int64_t *ports = s->ports.items;

		if (s->type != STEP_REFUSE_PROBE || e->mark == STEP_UNTOUCHED || e->now == STEP_UNDOING)
			continue;
		for (size_t k = 0; k < s->ports.n; k++)
			(void)buf_printf(b, "%s%lld", n++ ? ", " : "", (long long)ports[k]);
	}
	return n;
}

/* Made and deleted first, so that it may be there or not. */
static int make_rules(const struct drain_state *state, char **ret)
{
	_cleanup_buf_ struct buf ports = BUF_INIT(RULES_MAX / 2), b = BUF_INIT(RULES_MAX);
	size_t n = put_ports(state, &ports);

	(void)buf_puts(&b, TABLE "\ndelete " TABLE "\n");
	if (n)
		(void)buf_printf(&b,
				 TABLE " {\n"
				       "\tset ports {\n"
				       "\t\ttype inet_service\n"
				       "\t\telements = { %s }\n"
				       "\t}\n"
				       "\tchain input {\n"
				       "\t\ttype filter hook input priority -5; policy accept;\n"
				       "\t\tip saddr " PROBES_IPV4 " " REFUSED "\n"
				       "\t\tip6 saddr " PROBES_IPV6 " " REFUSED "\n"
				       "\t}\n"
				       "}\n",
				 buf_str(&ports));
	if (buf_ok(&ports) < 0 || buf_ok(&b) < 0)
		return -ENOMEM;
	*ret = buf_take(&b);
	return 0;
}

static bool has_rules(const struct job *spec)
{
	return strchr(spec->input, '{') != NULL;
}

static int make_spec(const struct drain_steps *s, const char *id, const char *title, const struct drain_state *state,
		     struct job **ret, struct error *err)
{
	_cleanup_(spec_freep) struct job *spec = NULL;
	_cleanup_free_ char *nft = steps_find_nft(s->host->paths, err);
	char *argv[] = { nft, (char[]){ "-f" }, (char[]){ "-" } };
	int r = nft ? spec_new(id, title, TABLE_USEC, &spec, err) : -ENOENT;

	if (r < 0)
		return r;
	if (spec_argv(spec, argv, ARRAY_SIZE(argv)) < 0 || make_rules(state, &spec->input) < 0)
		return error_oom(err);
	*ret = TAKE_PTR(spec);
	return 0;
}

struct jobs_request spec_of_nft(const struct job *spec)
{
	return (struct jobs_request){ .job = spec, .confined = true, .capabilities = 1ULL << CAP_NET_ADMIN };
}

/* ---- what is remembered of it ---- */

int steps_table_init(struct drain_steps *s)
{
	s->table.marker = path_join(s->host->paths->run, "refuse-probe");
	if (!s->table.marker)
		return -ENOMEM;
	s->table.there = fs_exists(s->table.marker);
	return 0;
}

void steps_table_done(struct drain_steps *s)
{
	jobs_handle_free(s->table.handle);
	spec_free(s->table.spec);
	free(s->table.marker);
}

static void remember(struct drain_steps *s, bool there)
{
	struct error e = ERROR_INIT;
	int r = there ? fs_write(s->table.marker, "", 0, 0600, FS_REPLACE | FS_NO_SYNC, &e) : fs_unlink(s->table.marker, &e);

	s->table.there = there;
	if (r < 0)
		log_for(LOG_LEVEL_WARNING, (.handler = "drain"), "%s; a restart would not know whether probes are refused", e.msg);
}

/* What nft says itself is worth more than its exit code. */
static const char *tell(const struct job_result *r, char out[static DETAIL_MAX])
{
	char phrase[128];
	int line = r->stderr_tail ? (int)strcspn(r->stderr_tail, "\n") : 0;

	(void)snprintf(out, DETAIL_MAX, "%s%s%.*s", job_result_why(r, phrase), line ? ": " : "", line > 200 ? 200 : line,
		       line ? r->stderr_tail : "");
	return out;
}

/* ---- the step ---- */

static void on_nft(const struct job_result *r, void *userdata);

static void start(struct doing *d)
{
	struct error e = ERROR_INIT;

	/* What is said to nft last is in force, so one at a time. */
	if (d->steps->table.handle) {
		loop_timer_after(d->again, BUSY_USEC);
		return;
	}
	if (!d->undo)
		remember(d->steps, true);
	if (step_job_start(d, on_nft, &e) < 0)
		step_end_failed(d, &e);
}

static void on_nft(const struct job_result *r, void *userdata)
{
	struct doing *d = userdata;
	char text[DETAIL_MAX];

	if (r->end == JOB_SUCCEEDED)
		remember(d->steps, has_rules(d->spec));
	if ((r->end == JOB_INTERRUPTED || r->end == JOB_NOT_STARTED) && d->may_be_lost && !d->stopping) {
		d->may_be_lost = false;
		step_job_forget(d);
		start(d);
	} else if (r->end == JOB_EXITED && !d->stopping) {
		step_end(d, STEP_OUTCOME_FAILED, (int)r->exit_code, tell(r, text));
	} else {
		step_job_end(d, r);
	}
}

static void begin_probe(struct doing *d, const struct drain_action *a, const struct drain_state *state)
{
	struct error e = ERROR_INIT;
	int r;

	d->job = str_format("drain-%lld", (long long)d->token);
	d->may_be_lost = a->attach;
	r = d->job ? make_spec(d->steps, d->job, a->step->name, state, &d->spec, &e) : error_oom(&e);
	if (r < 0)
		step_end_failed(d, &e);
	else if (!a->attach)
		start(d);
	else if (jobs_attach(d->steps->host->jobs, d->job, on_nft, d, &d->handle, &e) < 0)
		step_end_failed(d, &e);
}

const struct step_kind step_refuse_probe = { .begin = begin_probe, .stop = step_job_stop, .again = start };

/* ---- beyond steps: put back, and removed when nobody stands for it ---- */

static void on_table(const struct job_result *r, void *userdata)
{
	struct drain_steps *s = userdata;
	bool made = has_rules(s->table.spec);
	char text[DETAIL_MAX];

	jobs_handle_free(TAKE_PTR(s->table.handle));
	jobs_forget(s->host->jobs, TABLE_JOB, true);
	if (r->end == JOB_SUCCEEDED) {
		remember(s, made);
	} else {
		s->table.again_boot = usec_add(loop_now_boot(s->host->loop), AGAIN_USEC);
		log_for(LOG_LEVEL_ERROR, (.handler = "drain"), "the table that refuses probes could not be %s: %s",
			made ? "put back" : "removed", tell(r, text));
	}
}

static bool step_at_work(const struct drain_steps *s)
{
	for (const struct doing *d = s->first; d; d = d->next)
		if (d->type == STEP_REFUSE_PROBE)
			return true;
	return false;
}

static void change_table(struct drain_steps *s, const struct drain_state *state)
{
	struct jobs_request req;
	struct error e = ERROR_INIT;
	int r;

	spec_free(TAKE_PTR(s->table.spec));
	jobs_forget(s->host->jobs, TABLE_JOB, true); /* of an earlier process of ours */
	r = make_spec(s, TABLE_JOB, "probe table", state, &s->table.spec, &e);
	req = spec_of_nft(s->table.spec);
	if (r >= 0)
		r = jobs_start(s->host->jobs, &req, on_table, s, &s->table.handle, &e);
	if (r < 0) {
		s->table.again_boot = usec_add(loop_now_boot(s->host->loop), AGAIN_USEC);
		log_for(LOG_LEVEL_ERROR, (.handler = "drain"), "the table that refuses probes cannot be set: %s; it is tried again", e.msg);
	}
}

void drain_steps_put_back(struct drain_steps *s, const struct drain_state *state)
{
	if (!s->table.handle && !step_at_work(s))
		change_table(s, state);
}

void drain_steps_tidy(struct drain_steps *s, const struct drain_state *state)
{
	_cleanup_buf_ struct buf ports = BUF_INIT(RULES_MAX);

	if (!s->table.there || s->table.handle || step_at_work(s) || loop_now_boot(s->host->loop) < s->table.again_boot)
		return;
	if (put_ports(state, &ports) == 0)
		change_table(s, state);
}
