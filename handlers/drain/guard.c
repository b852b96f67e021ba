/* The inhibitor and its drop-in. */
#include "handlers/drain/guard.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/core/job.h"
#include "agent/io/bus.h"
#include "agent/io/inhibitor.h"
#include "agent/io/loop.h"
#include "agent/io/paths.h"
#include "handlers/common/jobs.h"

#define JOB_ID	   "logind-delay"
#define LIMIT_CONF 4096
#define CONF_FORMAT                                                                                                    \
	"# Written by EvenKeel for drain.shutdown of its settings, and removed with it.\n[Login]\nInhibitDelayMaxSec=%lld\n"
#define JOB_SECONDS 30
#define RELOAD_USEC USEC_PER_SEC /* until logind has read it */
#define SPARE_USEC  USEC_PER_SEC /* logind's clock is not ours */
#define TROUBLE_MAX 400

struct guard {
	const struct handler_host *host;
	guard_shutdown_fn shutdown;
	void *userdata;
	struct inhibitor *inhibitor; /* NULL: not asked for, or there is no bus */
	int64_t max_delay_seconds;   /* 0: not asked for */
	struct jobs_handle *job;
	struct loop_timer *reload;
	char trouble[TROUBLE_MAX]; /* of the drop-in */
};

/* ---- the drop-in ---- */

static int conf_text(int64_t seconds, struct buf *out)
{
	return buf_printf(out, CONF_FORMAT, (long long)seconds);
}

static bool conf_is(const struct guard *g, int64_t seconds, bool *ret_there)
{
	_cleanup_free_ char *path = path_join(g->host->paths->logind, LOGIND_DROPIN);
	_cleanup_buf_ struct buf there = BUF_INIT(LIMIT_CONF), wanted = BUF_INIT(LIMIT_CONF);
	struct error ignored;

	*ret_there = path && fs_exists(path);
	return *ret_there && fs_read(path, LIMIT_CONF, &there, &ignored) == 0 && conf_text(seconds, &wanted) == 0 &&
	       str_equal(buf_str(&there), buf_str(&wanted));
}

static void settle(struct guard *g);

static void on_job(const struct job_result *r, void *userdata)
{
	struct guard *g = userdata;
	char phrase[128];

	if (r->end == JOB_SUCCEEDED && !str_empty(r->notice))
		log_for(LOG_LEVEL_WARNING, (.handler = "drain"), "%s", r->notice);
	if (r->end == JOB_SUCCEEDED) {
		g->trouble[0] = '\0';
		loop_timer_after(g->reload, RELOAD_USEC);
	} else {
		(void)snprintf(g->trouble, sizeof(g->trouble), "%s/%s: %s", g->host->paths->logind, LOGIND_DROPIN,
			       job_result_why(r, phrase));
		log_for(LOG_LEVEL_WARNING, (.handler = "drain"), "shutdowns are not held back as the settings say: %s", g->trouble);
	}
	jobs_handle_free(TAKE_PTR(g->job));
	jobs_forget(g->host->jobs, JOB_ID, true);
	if (g->host->bus && r->end == JOB_SUCCEEDED) {
		struct error e = ERROR_INIT;

		if (unit_kill(g->host->bus, "systemd-logind.service", SIGHUP, &e) < 0)
			log_for(LOG_LEVEL_WARNING, (.handler = "drain"), "systemd-logind has not heard how long shutdowns may be held back: %s",
				e.msg);
		settle(g); /* other settings may have come meanwhile */
	}
	g->host->changed(g->host);
}

static int make_job(const struct guard *g, int64_t seconds, struct job *j, struct job_secrets *secrets)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_CONF);
	struct job_file *f = calloc(1, sizeof(*f));
	struct job_secret *s = calloc(1, sizeof(*s));
	int r;

	j->files = (struct jd_list){ f, f ? 1 : 0 };
	secrets->values = (struct jd_list){ s, s ? 1 : 0 };
	if (!f || !s)
		return -ENOMEM;
	j->kind = seconds ? JOB_INSTALL : JOB_REMOVE;
	j->timeout_seconds = JOB_SECONDS;
	r = str_set(&j->directory, g->host->paths->logind);
	r = r < 0 ? r : str_set(&j->id, JOB_ID);
	r = r < 0 ? r : str_set(&j->handler, "drain");
	r = r < 0 ? r : str_set(&j->title, "logind's delay");
	r = r < 0 ? r : str_set(&f->name, LOGIND_DROPIN);
	r = r < 0 ? r : str_set(&f->mode, "0644");
	r = r < 0 ? r : str_set(&f->content, LOGIND_DROPIN);
	r = r < 0 ? r : str_set(&s->name, LOGIND_DROPIN);
	r = r < 0 ? r : conf_text(seconds, &text);
	return r < 0 ? r : str_set(&s->value, buf_str(&text));
}

static void start_job(struct guard *g, int64_t seconds)
{
	/* The drop-in's own directory may have to be made. */
	const char *const writable[] = { g->host->paths->systemd, NULL };
	struct job_secrets secrets = { 0 };
	struct error e = ERROR_INIT;
	struct job j;
	int r;

	job_init(&j);
	r = make_job(g, seconds, &j, &secrets);
	if (r >= 0)
		r = jobs_start(g->host->jobs,
			       &(struct jobs_request){
				       .job = &j, .secrets = &secrets, .confined = true, .writable = writable },
			       on_job, g, &g->job, &e);
	else
		(void)error_oom(&e);
	if (r < 0)
		(void)snprintf(g->trouble, sizeof(g->trouble), "%s/%s cannot be written: %.200s", g->host->paths->logind, LOGIND_DROPIN,
			       e.msg);
	jd_free(&job_type, &j);
	jd_free(&job_secrets_type, &secrets);
}

static usec_t wanted(const struct guard *g)
{
	return usec_from_seconds((uint64_t)g->max_delay_seconds);
}

/* Makes the drop-in what it must be, unless that is under way or has failed. */
static void settle(struct guard *g)
{
	bool there, right = conf_is(g, g->max_delay_seconds, &there);
	usec_t allowed = g->inhibitor ? inhibitor_max_delay(g->inhibitor) : 0;

	if (g->job || g->trouble[0])
		return;
	if (!g->max_delay_seconds) {
		if (there)
			start_job(g, 0);
	} else if (!right && allowed != 0 && (there || allowed < wanted(g))) {
		start_job(g, g->max_delay_seconds);
	}
}

static void on_reload(void *userdata)
{
	struct guard *g = userdata;

	if (g->inhibitor)
		inhibitor_ask_again(g->inhibitor);
}

/* ---- the inhibitor ---- */

static void on_shutdown(void *userdata, bool preparing)
{
	struct guard *g = userdata;

	g->shutdown(g->userdata, preparing);
}

static void on_changed(void *userdata)
{
	struct guard *g = userdata;

	settle(g);
	g->host->changed(g->host);
}

static const struct inhibitor_client inhibitor_client = { .shutdown = on_shutdown, .changed = on_changed };

void guard_apply(struct guard *g, const struct shutdown_settings *s)
{
	struct error e = ERROR_INIT;

	g->max_delay_seconds = s ? s->max_delay_seconds : 0;
	g->trouble[0] = '\0';
	if (!s) {
		inhibitor_free(TAKE_PTR(g->inhibitor));
		g->shutdown(g->userdata, false);
	} else if (!g->inhibitor && g->host->bus &&
		   inhibitor_new(g->host->bus, g->host->loop,
				 "drains the application by drain.shutdown of its settings", &inhibitor_client, g,
				 &g->inhibitor, &e) < 0) {
		(void)snprintf(g->trouble, sizeof(g->trouble), "%.300s", e.msg);
	}
	settle(g);
}

usec_t guard_delay(const struct guard *g)
{
	usec_t delay = wanted(g);

	if (g->inhibitor && inhibitor_max_delay(g->inhibitor) != 0)
		delay = usec_min(delay, inhibitor_max_delay(g->inhibitor));
	return usec_max(usec_sub(delay, SPARE_USEC), USEC_PER_SEC);
}

void guard_let_go(struct guard *g)
{
	if (g->inhibitor)
		inhibitor_let_go(g->inhibitor);
}

bool guard_busy(const struct guard *g)
{
	return g->job != NULL;
}

const char *guard_trouble(const struct guard *g, char *out, size_t size)
{
	usec_t allowed = g->inhibitor ? inhibitor_max_delay(g->inhibitor) : 0;

	out[0] = '\0';
	if (!g->max_delay_seconds)
		return out;
	if (!g->inhibitor)
		(void)snprintf(out, size, "reboots and shutdowns are not held back: %s",
			       g->trouble[0] ? g->trouble : "there is no logind here to ask");
	else if (inhibitor_trouble(g->inhibitor)[0])
		(void)snprintf(out, size, "reboots and shutdowns are not held back: %s",
			       inhibitor_trouble(g->inhibitor));
	else if (g->trouble[0])
		(void)snprintf(out, size, "%s", g->trouble);
	else if (allowed != 0 && allowed < wanted(g) && !g->job)
		(void)snprintf(out, size, "logind holds shutdowns back for %llu s only (InhibitDelayMaxSec)",
			       (unsigned long long)(allowed / USEC_PER_SEC));
	return out;
}

int guard_new(const struct handler_host *host, guard_shutdown_fn shutdown, void *userdata, struct guard **ret,
	      struct error *err)
{
	_cleanup_(guard_freep) struct guard *g = calloc(1, sizeof(*g));

	if (!g)
		return error_oom(err);
	g->host = host;
	g->shutdown = shutdown;
	g->userdata = userdata;
	if (loop_timer_new(host->loop, "logind-reload", on_reload, g, &g->reload) < 0)
		return error_oom(err);
	*ret = TAKE_PTR(g);
	return 0;
}

void guard_free(struct guard *g)
{
	if (!g)
		return;
	inhibitor_free(g->inhibitor);
	jobs_handle_free(g->job);
	loop_timer_free(g->reload);
	free(g);
}
