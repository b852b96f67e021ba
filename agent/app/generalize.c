/* Removing what belongs to one VM. The order matters: whoever is killed in between leaves what tells the next try what to remove. */
#include "agent/app/arguments.h"
#include "agent/app/generalize.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/app/api_client.h"
#include "agent/app/beside.h"
#include "agent/app/goal_request.h"
#include "agent/app/installation.h"
#include "agent/app/removal.h"
#include "agent/app/runner.h"
#include "agent/app/verbs.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/core/drain_record.h"
#include "agent/core/exit_codes.h"
#include "agent/core/key_plan.h"
#include "agent/io/bus.h"
#include "agent/io/loop.h"
#include "agent/io/machine.h"
#include "agent/io/paths.h"
#include "agent/io/record.h"

#define KEY_RECORD_MAX (64UL * 1024)
#define NAMES_MAX      10000

/* ---- whether it may be done now ---- */

static int check_drain(const struct paths *p, struct error *err)
{
	_cleanup_free_ char *path = path_join(p->records, "drain"), *fallback = path_join(p->run, "drain");
	_cleanup_(drain_state_freep) struct drain_state *state = NULL;
	_cleanup_(record_closep) struct record *record = NULL;
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_RECORD);
	struct error e = ERROR_INIT;
	int r;

	if (!path || !fallback)
		return error_oom(err);
	/* Opening makes what is not there. */
	if (!fs_exists(path) && !fs_exists(fallback))
		return 0;
	r = record_open(path, fallback, LIMIT_RECORD, DRAIN_RECORD_VERSION, &record, &e);
	if (r >= 0)
		r = record_load(record, &text, NULL, &e);
	if (r == -ENOENT || r == -EBADMSG)
		return 0;
	if (r >= 0)
		r = drain_record_decode(buf_str(&text), text.len, &state, &e);
	if (r == -EPROTO || r == -ENOMEM) {
		if (err)
			*err = e;
		return r;
	}
	if (r < 0 || state->host == HOST_SERVING)
		return 0;
	return error_set(
		err, ERROR_USER, -EBUSY,
		"this VM is %s: what was stopped would stay so in the image; \"evenkeel events\" shows why, \"evenkeel restore\" "
		"ends it",
		host_state_names[state->host]);
}

/* Begun in this boot, and no end of it known. */
static bool is_running(const char *directory, const char *boot_id)
{
	_cleanup_free_ char *started = path_join(directory, "started"), *result = path_join(directory, "result.json");
	_cleanup_buf_ struct buf boot = BUF_INIT(MACHINE_ID_MAX);

	return started && result && !fs_exists(result) && fs_read_nofollow(started, MACHINE_ID_MAX, &boot, NULL) >= 0 &&
	       str_equal(buf_str(&boot), boot_id);
}

static int check_jobs(const char *jobs, const char *boot_id, struct error *err)
{
	_cleanup_strv_ char **names = NULL;
	int r = fs_list(jobs, LIMIT_JOB_DIRECTORIES, &names, err);

	if (r == -ENOENT)
		return 0;
	for (char **n = names; r >= 0 && *n; n++) {
		_cleanup_free_ char *directory = path_join(jobs, *n);

		if (!directory)
			return error_oom(err);
		if (is_running(directory, boot_id))
			return error_set(err, ERROR_USER, -EBUSY,
					 "the job %s runs: wait for its end, or stop the unit evenkeel-job-%s.service",
					 *n, *n);
	}
	return r;
}

int generalize_check(const struct paths *p, struct error *err)
{
	char boot_id[MACHINE_ID_MAX];
	int r = machine_boot_id(p, boot_id, err);

	if (r >= 0)
		r = check_drain(p, err);
	if (r >= 0)
		r = check_jobs(p->jobs, boot_id, err);
	return r < 0 ? r : check_jobs(p->run_jobs, boot_id, err);
}

/* ---- the service ---- */

static int stop(const struct paths *p, struct bus *bus, struct error *err)
{
	/* The socket first: a request would start the service again. Both start with the next boot, as they did with this one. */
	static const char *const units[] = { "evenkeel.socket", "evenkeel.service" };

	for (size_t i = 0; bus && i < ARRAY_SIZE(units); i++) {
		char load[64], active[64], sub[64];
		int r = bus_unit_state(bus, units[i], load, active, sub, err);

		if (r >= 0 && !str_equal(active, "inactive") && !str_equal(active, "failed"))
			r = bus_unit_job(bus, UNIT_STOP, units[i], true, err);
		if (r < 0)
			return r;
	}
	if (api_daemon_running(p))
		return error_set(err, ERROR_USER, -EBUSY,
				 "an evenkeel daemon runs that no service manager has started: stop it");
	return 0;
}

static void start_again(struct bus *bus)
{
	struct error e = ERROR_INIT;

	if (bus && (bus_unit_job(bus, UNIT_START, "evenkeel.socket", true, &e) < 0 ||
		    bus_unit_job(bus, UNIT_START, "evenkeel.service", true, &e) < 0))
		log_warning("%s", e.msg);
}

/* ---- removing: everything is tried, the first failure is told ---- */

static void remove_tree(struct removal *rm, const char *path)
{
	struct error e = ERROR_INIT;

	removal_note(rm, path ? fs_remove_tree(path, &e) : error_oom(&e), &e);
}

/* What is in the directory, not the directory: the manager or the package has made it with its modes. */
static void empty(struct removal *rm, const char *directory)
{
	_cleanup_strv_ char **names = NULL;
	struct error e = ERROR_INIT;
	int r = fs_list(directory, NAMES_MAX, &names, &e);

	if (r < 0 && r != -ENOENT)
		removal_note(rm, r, &e);
	for (char **n = names; r >= 0 && *n; n++) {
		_cleanup_free_ char *path = path_join(directory, *n);

		remove_tree(rm, path);
	}
}

static void remove_logs(struct removal *rm, const char *folder)
{
	_cleanup_strv_ char **names = NULL;
	struct error e = ERROR_INIT;
	int r = fs_list(folder, NAMES_MAX, &names, &e);

	if (r < 0 && r != -ENOENT)
		removal_note(rm, r, &e);
	for (char **n = names; r >= 0 && *n; n++) {
		_cleanup_free_ char *path = path_join(folder, *n);

		/* The Azure agent's own logs are beside them. */
		if (str_starts(*n, "evenkeel.log"))
			removal_note(rm, path ? fs_unlink(path, &e) : error_oom(&e), &e);
	}
}

/* Certificates and secrets where the settings wanted them: their records tell, since the settings may be encrypted for this VM. */
static void remove_keys(struct removal *rm, const struct key_record *r)
{
	struct job_file *files = calloc(r->files.n + 1, sizeof(*files));
	const struct job job = { .kind = JOB_REMOVE, .directory = r->directory, .files = { files, r->files.n } };
	struct error e = ERROR_INIT;

	for (size_t i = 0; files && i < r->files.n; i++)
		files[i].name = ((char **)r->files.items)[i];
	removal_note(rm, files ? runner_remove(&job, &e) : error_oom(&e), &e);
	free(files);
}

/* Where former settings wanted them. */
static void remove_former(struct removal *rm, const struct key_record *r)
{
	for (size_t i = 0; i < r->former.n; i++) {
		char *path = ((char **)r->former.items)[i], *slash = strrchr(path, '/');
		struct job_file file = { .name = slash ? slash + 1 : NULL };
		const struct job job = { .kind = JOB_REMOVE, .directory = path, .files = { &file, 1 } };
		struct error e = ERROR_INIT;

		if (!slash || slash == path)
			continue;
		*slash = '\0';
		removal_note(rm, runner_remove(&job, &e), &e);
	}
}

static void remove_installed(const struct paths *p, struct removal *rm)
{
	_cleanup_free_ char *directory = path_join(p->records, "key-refresh");
	_cleanup_strv_ char **names = NULL;
	struct error e = ERROR_INIT;
	int r = directory ? fs_list(directory, LIMIT_KEY_RECORDS, &names, &e) : error_oom(&e);

	if (r < 0 && r != -ENOENT)
		removal_note(rm, r, &e);
	for (char **n = names; r >= 0 && *n; n++) {
		_cleanup_free_ char *path = path_join(directory, *n);
		_cleanup_buf_ struct buf text = BUF_INIT(KEY_RECORD_MAX);
		struct key_record record = { 0 };
		int q = path ? fs_read_nofollow(path, KEY_RECORD_MAX, &text, &e) : error_oom(&e);

		if (q >= 0)
			q = key_record_decode(buf_str(&text), text.len, &record, &e);
		removal_note(rm, q, &e);
		if (q >= 0 && record.directory)
			remove_keys(rm, &record);
		if (q >= 0)
			remove_former(rm, &record);
		if (q >= 0)
			key_record_done(&record);
	}
}

static void remove_settings(const struct paths *p, struct removal *rm)
{
	/* The directories stay: a package owns them. */
	static const char *const directories[] = { "", "evenkeel.d", "hooks/drain.d", "hooks/restore.d",
						   "hooks/activate.d" };

	for (size_t i = 0; i < ARRAY_SIZE(directories); i++) {
		_cleanup_free_ char *directory = path_join(p->etc, directories[i]);
		_cleanup_strv_ char **names = NULL;
		struct error e = ERROR_INIT;
		int r = directory ? fs_list(directory, NAMES_MAX, &names, &e) : error_oom(&e);

		if (r < 0 && r != -ENOENT)
			removal_note(rm, r, &e);
		for (char **n = names; r >= 0 && *n; n++) {
			_cleanup_free_ char *path = path_join(directory, *n);
			struct stat st;

			if (!path)
				removal_note(rm, error_oom(&e), &e);
			else if (lstat(path, &st) == 0 && !S_ISDIR(st.st_mode))
				removal_note(rm, fs_unlink(path, &e), &e);
		}
	}
}

static void remove_all(const struct paths *p, struct bus *bus, bool all, struct removal *rm)
{
	_cleanup_(goal_request_done) struct goal_request goal = { 0 };
	_cleanup_(owner_done) struct owner owner = { 0 };
	bool ours = owner_read(p, &owner, NULL) == 0;
	bool package = ours && package_is_installed(p) && (all || str_equal(owner.kind, "extension"));
	struct error e = ERROR_INIT;

	if (goal_request_read(p, &goal, NULL) >= 0 && goal.log_folder)
		remove_logs(rm, goal.log_folder);
	remove_logs(rm, p->log_default);
	remove_installed(p, rm);
	empty(rm, p->certificates);
	empty(rm, p->jobs);
	empty(rm, p->run);
	removal_note(rm, installation_remove_logind(p, bus, &e), &e);
	if (all)
		remove_settings(p, rm);
	/* Last: these tell what else there is. The image's own program is the package; the extension comes to a VM when the
	 * platform says so. */
	if (rm->first == 0 && package)
		removal_note(rm, installation_hand_over(p, bus, false, &e), &e);
	if (rm->first == 0 && all && ours && !package)
		removal_note(rm, installation_remove(p, bus, true, &e), &e);
	else if (rm->first == 0)
		empty(rm, p->records);
}

int generalize(const struct paths *p, struct bus *bus, bool all, struct error *err)
{
	struct removal rm = { .err = err };
	int r = generalize_check(p, err);

	if (r >= 0)
		r = stop(p, bus, err);
	if (r < 0)
		return r;
	/* What has begun while it stopped runs on without it, and would be cut off. */
	r = generalize_check(p, err);
	if (r < 0) {
		start_again(bus);
		return r;
	}
	remove_all(p, bus, all, &rm);
	return rm.first;
}

/* ---- the verb ---- */

static int do_it(bool all)
{
	_cleanup_(paths_done) struct paths p = { 0 };
	_cleanup_(loop_freep) struct loop *loop = NULL;
	_cleanup_(bus_closep) struct bus *bus = NULL;
	struct error e = ERROR_INIT, none = ERROR_INIT;
	int r = paths_init(&p, NULL, &e);

	if (r >= 0)
		r = loop_new(&loop, &e);
	/* In a tree that is not booted nobody answers, and nothing runs. */
	if (r >= 0 && bus_open(&bus, loop, &none) < 0)
		bus = NULL;
	if (r >= 0)
		r = generalize(&p, bus, all, &e);
	if (r < 0) {
		fprintf(stderr, "evenkeel generalize: %s\n", e.msg);
		return EXIT_FAILED;
	}
	puts("Identity, records, secrets, logs and certificates of this VM are gone.");
	if (!all)
		printf("What every VM of the image will have stays: the program and %s. Look for secrets of yours there.\n",
		       p.etc);
	return EXIT_OK;
}

int verb_generalize(int argc, char **argv)
{
	static const char usage[] = "generalize";
	bool yes = false, all = false;

	for (int i = 1; i < argc; i++) {
		if (str_equal(argv[i], "--yes"))
			yes = true;
		else if (str_equal(argv[i], "--all"))
			all = true;
		else
			return cli_usage(usage);
	}
	if (yes)
		return do_it(all);
	fputs("evenkeel generalize: records, secrets, logs and certificates of this VM would be removed for good; if that is meant, "
	      "say --yes\n",
	      stderr);
	return cli_usage(usage);
}
