/* The daemon's life: what is opened in which order, and closed in the reverse. */
#include "agent/app/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "agent/app/beside.h"
#include "agent/app/daemon_private.h"
#include "agent/app/daemon_refused.h"
#include "agent/app/installation.h"
#include "agent/app/verbs.h"
#include "agent/azure/identity.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/core/exit_codes.h"
#include "agent/io/bus.h"
#include "agent/io/executor.h"
#include "agent/io/http.h"
#include "agent/io/log_sinks.h"
#include "agent/io/loop.h"
#include "agent/io/service.h"
#include "generated/version.h"
#include "handlers/common/jobs.h"

#define HOUSEKEEPING_USEC (60 * USEC_PER_SEC)
/* For the answer to whoever has asked it to leave. */
#define ANSWERED_USEC (100 * USEC_PER_MSEC)
/* settings.md 3.3: without a handler directory for this long the extension has been dropped without a word. */
#define HOMELESS_USEC (30 * USEC_PER_MINUTE)

/* In the order in which settings reach them: a script may wait for the certificates of its own document. */
const struct handler_class *const handler_classes[HANDLERS] = {
	&key_refresh_class,
	&custom_script_class,
	&drain_class,
	&user_data_class,
};

/* ---- what handlers may ask ---- */

static void on_changed(const struct handler_host *host)
{
	daemon_changed(host->daemon);
}

static void on_set_serving(const struct handler_host *host, bool serving)
{
	struct daemon *d = host->daemon;

	d->serving = serving;
	daemon_changed(d);
}

static void on_set_drained(const struct handler_host *host, bool drained)
{
	struct daemon *d = host->daemon;

	d->drained = drained;
}

static bool on_application_healthy(const struct handler_host *host)
{
	const struct daemon *d = host->daemon;

	return d->health && health_application_ok(d->health);
}

static const char *on_config_folder(const struct handler_host *host)
{
	const struct daemon *d = host->daemon;

	return d->goal.config_folder;
}

static void on_tell(const struct handler_host *host, enum notice_kind kind, const char *subject, const char *event_type,
		    const char *message)
{
	struct daemon *d = host->daemon;

	notifier_tell(d->notifier, kind, false, subject, event_type, message);
}

static void on_ask_application(const struct handler_host *host)
{
	struct daemon *d = host->daemon;

	if (d->health)
		health_ask_anew(d->health);
}

static bool on_paused(const struct handler_host *host)
{
	const struct daemon *d = host->daemon;

	return pause_is_on(d->pause);
}

static bool on_certificates_ready(const struct handler_host *host)
{
	struct daemon *d = host->daemon;

	for (size_t i = 0; i < HANDLERS; i++)
		if (handler_classes[i] == &key_refresh_class)
			return !daemon_component_open(d, i);
	return true;
}

static int on_offer_settings(const struct handler_host *host, const char *revision, const struct handler_document *documents, size_t n,
			     struct error *err)
{
	return daemon_offer_settings(host->daemon, revision, documents, n, err);
}

/* ---- this machine ---- */

static int empty_directory(const char *path, const char *keep, struct error *err)
{
	_cleanup_strv_ char **names = NULL;
	int r = fs_list(path, LIMIT_JOB_DIRECTORIES, &names, err);

	for (char **n = names; r >= 0 && n && *n; n++) {
		_cleanup_free_ char *entry = path_join(path, *n);

		if (!entry)
			return error_oom(err);
		if (!str_equal(*n, keep))
			r = fs_remove_tree(entry, err);
	}
	return r;
}

/* State belongs to one machine: on a copied disk it is not ours (settings.md 3.3). The mark is written last, so that a
 * kill in between does the work again. */
static int bind_to_machine(struct daemon *d, struct error *err)
{
	_cleanup_buf_ struct buf there = BUF_INIT(MACHINE_ID_MAX);
	_cleanup_free_ char *path = path_join(d->paths.records, "machine");
	struct error ignored;
	int r;

	if (!path)
		return error_oom(err);
	r = fs_read(path, MACHINE_ID_MAX, &there, &ignored);
	if (r == 0 && str_equal(buf_str(&there), d->machine_id))
		return 0;
	if (r == 0) {
		log_warning("this disk was copied from another machine; its state is not ours: starting empty, waiting for an enable");
		r = empty_directory(d->paths.records, "owner.json", err);
		if (r < 0)
			return r;
		/* What a script has left as another user is not ours to remove: we have no capability. No record knows it any
		 * more, and it goes as every old run does. */
		if (empty_directory(d->paths.jobs, NULL, &ignored) < 0)
			log_warning("%s", ignored.msg);
	}
	return fs_write(path, d->machine_id, strlen(d->machine_id), 0600, FS_REPLACE, err);
}

static int take_lock(struct daemon *d, struct error *err)
{
	_cleanup_free_ char *path = path_join(d->paths.run, "daemon.lock");
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (!path)
		return error_oom(err);
	d->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (d->lock_fd < 0)
		return error_errno(err, -errno, "%s", path);
	if (fcntl(d->lock_fd, F_OFD_SETLK, &lock) < 0)
		return error_set(err, ERROR_SYSTEM, -EBUSY, "another evenkeel daemon is running (%s is locked)", path);
	return 0;
}

/* ---- signals and timers ---- */

static void on_stop(int signo, void *userdata)
{
	struct daemon *d = userdata;

	log_info("stopping on %s; what is drained stays drained, running jobs run on", strsignal(signo));
	service_stopping();
	loop_exit(d->loop, EXIT_OK);
}

static void on_reload(int signo, void *userdata)
{
	struct daemon *d = userdata;
	struct error e = ERROR_INIT;

	(void)signo;
	service_reloading();
	if (daemon_load_goal(d, &e) < 0)
		log_error("reload: %s", e.msg);
	for (size_t i = 0; i < HANDLERS; i++)
		if (d->slots[i].class->poll)
			d->slots[i].class->poll(d->slots[i].handler);
	service_ready(NULL);
}

static void on_again(void *userdata)
{
	struct daemon *d = userdata;
	struct error e = ERROR_INIT;

	if (daemon_load_goal(d, &e) < 0)
		log_error("%s", e.msg);
}

static void on_status_due(void *userdata)
{
	daemon_write_status(userdata);
}

void daemon_retire(struct daemon *d)
{
	if (d->retiring)
		return;
	d->retiring = true;
	log_for(LOG_LEVEL_INFO, (.handler = "daemon", .milestone = true), "retiring: ending what is drained by restoring it");
	for (size_t i = 0; i < HANDLERS; i++)
		d->slots[i].class->retire(d->slots[i].handler);
}

/* As the extension's uninstall would have done it. The sandbox lets nobody remove units, so it is done outside. */
static int hand_over(struct daemon *d, struct error *err)
{
	_cleanup_free_ char *binary = realpath("/proc/self/exe", NULL);

	log_info("the extension is gone from this machine: the package's service takes over");
	if (!binary)
		return error_errno(err, -errno, "/proc/self/exe");
	if (d->bus)
		return bus_start_helper(d->bus, "evenkeel-leave.service", "EvenKeel goes over to the package", binary, "service",
					"leave", err);
	loop_exit(d->loop, EXIT_OK);
	return installation_hand_over(&d->paths, NULL, false, err);
}

static void leave(struct daemon *d)
{
	struct error e = ERROR_INIT;

	for (size_t i = 0; i < HANDLERS; i++)
		if (d->slots[i].class->busy(d->slots[i].handler))
			return;
	if (d->homeless_since && package_is_installed(&d->paths)) {
		if (hand_over(d, &e) < 0)
			log_error("%s", e.msg);
		return;
	}
	log_info("the extension is gone from this machine: the service stops and disables itself");
	/* Of an upgrade that has not come to its end: whoever installs next would be taken for its other end. */
	if (upgrade_mark_clear(&d->paths, &e) < 0)
		log_warning("%s", e.msg);
	if (d->bus) {
		if (bus_disable_unit(d->bus, "evenkeel.socket", &e) < 0 || bus_disable_unit(d->bus, "evenkeel.service", &e) < 0 ||
		    bus_unit_job(d->bus, UNIT_STOP, "evenkeel.socket", false, &e) < 0 ||
		    bus_unit_job(d->bus, UNIT_STOP, "evenkeel.service", false, &e) < 0)
			log_error("%s", e.msg);
	} else {
		loop_exit(d->loop, EXIT_OK);
	}
}

void daemon_leave(struct daemon *d)
{
	if (!d->bus)
		loop_timer_after(d->housekeeping, ANSWERED_USEC);
}

static void on_housekeeping(void *userdata)
{
	struct daemon *d = userdata;
	usec_t now = loop_now_boot(d->loop);

	loop_timer_after(d->housekeeping, HOUSEKEEPING_USEC);
	if (d->retiring && !d->bus)
		leave(d);
	if (!extension_has_vanished(&d->paths, d->goal.config_folder)) {
		d->homeless_since = 0;
		return;
	}
	if (!d->homeless_since)
		d->homeless_since = now;
	if (usec_sub(now, d->homeless_since) >= HOMELESS_USEC) {
		daemon_retire(d);
		leave(d);
	}
}

/* ---- opening and closing ---- */

/* Where there is a manager that does not answer now, we are begun anew in a second: jobs that were plain children of ours would
 * be in our sandbox. */
static int open_manager(struct daemon *d, struct error *err)
{
	struct error e = ERROR_INIT;
	int r = bus_open(&d->bus, d->loop, &e);

	if (r == -ENOENT)
		log_info("no systemd manager answers (%s): jobs are plain children", e.msg);
	else if (r < 0 && err)
		*err = e;
	return r == -ENOENT ? 0 : r;
}

static int open_machinery(struct daemon *d, struct error *err)
{
	const struct http_options options = { .connect_to = getenv("EVENKEEL_CONNECT_TO") };
	_cleanup_free_ char *binary = realpath("/proc/self/exe", NULL);
	int r;

	if (!binary)
		return error_errno(err, -errno, "/proc/self/exe");
	if (options.connect_to)
		log_warning("EVENKEEL_CONNECT_TO is set: requests go to %s; this is for tests and rehearsals", options.connect_to);
	r = open_manager(d, err);
	if (r < 0)
		return r;
	r = http_new(&d->http, d->loop, &options, err);
	if (r < 0)
		return r;
	r = executor_new(&d->executor, d->loop, d->bus, binary, d->paths.run_jobs, err);
	if (r < 0)
		return r;
	r = jobs_new(&d->jobs, d->loop, d->executor, &d->paths, d->boot_id, err);
	if (r < 0)
		return r;
	r = tokens_new(&d->tokens, d->loop, d->http, err);
	if (r < 0)
		return r;
	if (tokens_set_root(d->tokens, d->paths.root) < 0)
		return error_oom(err);
	r = endpoints_new(d->loop, &d->endpoints, err);
	if (r < 0)
		return r;
	r = telemetry_new(d, &d->telemetry, err);
	if (r < 0)
		return r;
	return notifier_new(&d->notifier, d->loop, d->http, telemetry_metrics(d->telemetry), &d->paths, err);
}

/* What a later version has drained stays out of the balancer: its record, which would tell, cannot be read. */
static bool drained_by_another(const struct daemon *d)
{
	char load[64], active[64], sub[64];
	struct error e = ERROR_INIT;

	return d->bus && bus_unit_state(d->bus, "evenkeel-drained.target", load, active, sub, &e) >= 0 &&
	       str_equal(active, "active");
}

/* A record of a later version (-EPROTO) stays as it is, and what it is about is left alone (agent/codec/json_record.h). */
static int open_handler(struct daemon *d, struct handler_slot *slot, const struct handler_class *class, struct error *err)
{
	struct error e = ERROR_INIT;
	int r = class->start(&d->host, &slot->handler, &e);

	if (r != -EPROTO) {
		slot->class = class;
		if (r < 0 && err)
			*err = e;
		return r;
	}
	log_for(LOG_LEVEL_ERROR, (.handler = class->name), "%s; going on without %s", e.msg, class->name);
	if (class == &drain_class && drained_by_another(d))
		d->serving = false;
	slot->class = &refused_class;
	return refused_new(class, e.msg, &slot->handler, err);
}

static int open_handlers(struct daemon *d, struct error *err)
{
	d->host = (struct handler_host){ .loop = d->loop,
					 .http = d->http,
					 .bus = d->bus,
					 .jobs = d->jobs,
					 .tokens = d->tokens,
					 .metrics = telemetry_metrics(d->telemetry),
					 .paths = &d->paths,
					 .machine_id = d->machine_id,
					 .boot_id = d->boot_id,
					 .changed = on_changed,
					 .application_healthy = on_application_healthy,
					 .ask_application = on_ask_application,
					 .certificates_ready = on_certificates_ready,
					 .config_folder = on_config_folder,
					 .set_serving = on_set_serving,
					 .set_drained = on_set_drained,
					 .tell = on_tell,
					 .paused = on_paused,
					 .offer_settings = on_offer_settings,
					 .daemon = d };
	for (size_t i = 0; i < HANDLERS; i++) {
		int r = open_handler(d, &d->slots[i], handler_classes[i], err);

		if (r < 0)
			return error_wrap(err, r, "%s", handler_classes[i]->name);
	}
	return health_new(d, &d->health, err);
}

static int open_timers(struct daemon *d, struct error *err)
{
	int r = loop_timer_new(d->loop, "status", on_status_due, d, &d->status_timer);

	if (r >= 0)
		r = loop_timer_new(d->loop, "goal-again", on_again, d, &d->again);
	if (r >= 0)
		r = loop_timer_new(d->loop, "housekeeping", on_housekeeping, d, &d->housekeeping);
	if (r >= 0)
		r = loop_signal(d->loop, SIGTERM, on_stop, d);
	if (r >= 0)
		r = loop_signal(d->loop, SIGINT, on_stop, d);
	if (r >= 0)
		r = loop_signal(d->loop, SIGHUP, on_reload, d);
	if (r < 0)
		return error_errno(err, r, "cannot set up timers and signals");
	loop_timer_after(d->housekeeping, HOUSEKEEPING_USEC);
	return service_watchdog(d->loop, err);
}

static int open_daemon(struct daemon *d, struct error *err)
{
	int r = paths_init(&d->paths, NULL, err);

	if (r >= 0)
		r = installation_make_directories(&d->paths, err);
	if (r >= 0)
		r = take_lock(d, err);
	if (r >= 0)
		r = machine_identity(&d->paths, d->machine_id, err);
	if (r >= 0)
		r = machine_boot_id(&d->paths, d->boot_id, err);
	if (r >= 0)
		r = bind_to_machine(d, err);
	if (r >= 0)
		r = loop_new(&d->loop, err);
	if (r >= 0)
		r = open_timers(d, err);
	if (r >= 0)
		r = deployment_open(&d->paths, &d->deployments, err);
	if (r >= 0)
		r = status_model_new(&d->model) < 0 ? error_oom(err) : 0;
	if (r >= 0)
		r = open_machinery(d, err);
	if (r >= 0)
		r = pause_new(d, &d->pause, err);
	if (r >= 0)
		r = machine_facts_new(d, &d->machine, err);
	if (r >= 0)
		r = open_handlers(d, err);
	if (r >= 0)
		r = daemon_load_goal(d, err);
	if (r >= 0)
		r = daemon_open_api(d, err);
	return r;
}

static void close_daemon(struct daemon *d)
{
	daemon_close_api(d);
	endpoints_finish(d->endpoints);
	health_free(d->health);
	for (size_t i = 0; i < HANDLERS; i++)
		if (d->slots[i].handler)
			d->slots[i].class->free(d->slots[i].handler);
	machine_facts_free(d->machine);
	pause_free(d->pause);
	notifier_free(d->notifier);
	endpoints_free(d->endpoints);
	telemetry_free(d->telemetry);
	tokens_free(d->tokens);
	jobs_free(d->jobs);
	executor_free(d->executor);
	http_free(d->http);
	bus_close(d->bus);
	status_model_free(d->model);
	deployment_close(d->deployments);
	loop_timer_free(d->status_timer);
	loop_timer_free(d->again);
	loop_timer_free(d->housekeeping);
	loop_free(d->loop);
	settings_done(&d->settings);
	goal_request_done(&d->goal);
	jd_report_done(&d->report);
	free(d->settings_message);
	free(d->status_file);
	free(d->key);
	free(d->files_key);
	free(d->user_key);
	free(d->user_data_refused);
	if (d->lock_fd >= 0)
		close(d->lock_fd);
	log_file_close(d->log);
	paths_done(&d->paths);
}

int daemon_main(const struct daemon_options *o, struct error *err)
{
	struct daemon d = { .options = *o, .lock_fd = -1, .serving = true };
	int r;

	/* Settings and keys pass through memory: no core file, no ptrace by others. */
	(void)prctl(PR_SET_DUMPABLE, 0);
	r = open_daemon(&d, err);
	if (r >= 0) {
		log_for(LOG_LEVEL_INFO, (.handler = "daemon", .milestone = true), "version %s is running", EK_VERSION);
		service_ready(status_top_message(d.model));
		r = o->until_idle && daemon_idle(&d) ? EXIT_OK : loop_run(d.loop);
		if (r < 0)
			(void)error_errno(err, r, "the event loop failed");
	}
	close_daemon(&d);
	log_console_remove();
	return r;
}

static int serve(const struct daemon_options *o, bool foreground)
{
	struct error e = ERROR_INIT;
	int r;

	if (foreground)
		log_stderr_add(LOG_LEVEL_INFO, false);
	log_journal_add(LOG_LEVEL_INFO);
	r = daemon_main(o, &e);
	if (r < 0)
		log_error("%s", e.msg);
	log_journal_remove();
	if (foreground)
		log_stderr_remove();
	return r < 0 ? EXIT_FAILED : r;
}

int verb_daemon(int argc, char **argv)
{
	struct daemon_options o = { 0 };
	bool foreground = false;

	for (int i = 1; i < argc; i++) {
		if (str_equal(argv[i], "--foreground"))
			foreground = true;
		else if (str_equal(argv[i], "--until-idle"))
			o.until_idle = true;
		else {
			fprintf(stderr, "evenkeel daemon: unknown argument \"%s\"\n", argv[i]);
			return EXIT_USAGE;
		}
	}
	return serve(&o, foreground);
}
