/* Putting the program on the machine and taking it off again. */
#include "agent/app/installation.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/app/api_client.h"
#include "agent/app/beside.h"
#include "agent/app/removal.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/base/time.h"
#include "agent/codec/json.h"
#include "agent/codec/json_record.h"
#include "agent/io/bus.h"
#include "agent/io/paths.h"
#include "generated/version.h"

#define LIMIT_OWNER 4096
#define FORMAT	    1 /* of owner.json and upgrade.json */
#define END_USEC    (5 * USEC_PER_SEC)

extern const char unit_evenkeel_service[], unit_evenkeel_socket[], unit_evenkeel_jobs_slice[],
	unit_evenkeel_drained_target[];

static const struct {
	const char *name;
	const char *text;
} units[] = {
	{ "evenkeel.service", unit_evenkeel_service },
	{ "evenkeel.socket", unit_evenkeel_socket },
	{ "evenkeel-jobs.slice", unit_evenkeel_jobs_slice },
	{ "evenkeel-drained.target", unit_evenkeel_drained_target },
};

const char *installation_unit(size_t i)
{
	return i < ARRAY_SIZE(units) ? units[i].name : NULL;
}

/* ---- small documents ---- */

static const struct jd_type word = { .kind = JD_TEXT, .max = 200 };

/* clang-format off */
static const struct jd_field owner_fields[] = {
	{ "kind",         &word, offsetof(struct owner, kind),         JD_REQUIRED },
	{ "version",      &word, offsetof(struct owner, version),      JD_REQUIRED },
	{ "installation", &word, offsetof(struct owner, installation), JD_REQUIRED },
	{ NULL },
};
static const struct jd_field mark_fields[] = {
	{ "from", &word, offsetof(struct upgrade_mark, from), JD_REQUIRED },
	{ "to",   &word, offsetof(struct upgrade_mark, to),   JD_REQUIRED },
	{ NULL },
};
/* clang-format on */

static const struct jd_type owner_type = { .kind = JD_OBJECT, .fields = owner_fields, .size = sizeof(struct owner) };
static const struct jd_type mark_type = { .kind = JD_OBJECT, .fields = mark_fields, .size = sizeof(struct upgrade_mark) };

static int read_document(const struct paths *p, const char *name, const struct jd_type *type, void *ret, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_OWNER);
	_cleanup_free_ char *path = path_join(p->records, name);
	int r;

	if (!path)
		return error_oom(err);
	r = fs_read_nofollow(path, LIMIT_OWNER, &text, err);
	if (r < 0)
		return r;
	return jd_decode_record(buf_str(&text), text.len, path, LIMIT_OWNER, type, FORMAT, ret, err);
}

static int write_document(const struct paths *p, const char *name, const struct jd_type *type, const void *value,
			  struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_OWNER);
	_cleanup_free_ char *path = path_join(p->records, name);
	int r;

	if (!path)
		return error_oom(err);
	r = jd_encode_record(type, FORMAT, value, &text);
	if (r < 0)
		return error_errno(err, r, "%s: cannot encode", path);
	return fs_write(path, text.data, text.len, 0600, FS_REPLACE, err);
}

static int remove_record(const struct paths *p, const char *name, struct error *err)
{
	_cleanup_free_ char *path = path_join(p->records, name);

	return path ? fs_unlink(path, err) : error_oom(err);
}

int owner_read(const struct paths *p, struct owner *ret, struct error *err)
{
	return read_document(p, "owner.json", &owner_type, ret, err);
}

void owner_done(struct owner *o)
{
	jd_free(&owner_type, o);
}

int upgrade_mark_read(const struct paths *p, struct upgrade_mark *ret, struct error *err)
{
	return read_document(p, "upgrade.json", &mark_type, ret, err);
}

int upgrade_mark_write(const struct paths *p, const struct upgrade_mark *m, struct error *err)
{
	return write_document(p, "upgrade.json", &mark_type, m, err);
}

int upgrade_mark_clear(const struct paths *p, struct error *err)
{
	return remove_record(p, "upgrade.json", err);
}

void upgrade_mark_done(struct upgrade_mark *m)
{
	jd_free(&mark_type, m);
}

/* ---- directories, binary, units ---- */

int installation_make_directories(const struct paths *p, struct error *err)
{
	const struct {
		const char *path;
		mode_t mode;
	} directories[] = {
		{ p->state, 0711 }, { p->records, 0700 }, { p->jobs, 0711 }, { p->certificates, 0711 },
		{ p->run, 0711 },   { p->run_jobs, 0700 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(directories); i++) {
		int r = fs_mkdirs(directories[i].path, directories[i].mode, err);

		if (r < 0)
			return r;
	}
	return 0;
}

char *installation_binary(const struct paths *p)
{
	return str_format("%s/%s/bin/evenkeel", p->libexec, EK_VERSION);
}

/* What the unit's ExecStart= says: where the binary is once the root is "/". */
static const char *in_unit(const struct paths *p, const char *binary)
{
	return binary + strlen(p->root);
}

static bool same_bytes(const char *one, const char *other)
{
	_cleanup_close_ int a = open(one, O_RDONLY | O_CLOEXEC), b = open(other, O_RDONLY | O_CLOEXEC);
	static const size_t block = 65536;
	_cleanup_free_ char *x = malloc(2 * block);

	while (x && a >= 0 && b >= 0) {
		ssize_t n = read(a, x, block), m = read(b, x + block, block);

		if (n < 0 || n != m || memcmp(x, x + block, (size_t)n) != 0)
			return false;
		if (n == 0)
			return true;
	}
	return false;
}

/* 1 when the file was written, 0 when it was there already: a service that runs it goes on as it is. */
static int put_binary(const struct paths *p, const char *binary, struct error *err)
{
	_cleanup_free_ char *directory = str_format("%s/%s/bin", p->libexec, EK_VERSION);
	struct stat ours, there;
	int r;

	/* The service may already run this very file, and so may we. */
	if (stat("/proc/self/exe", &ours) == 0 && stat(binary, &there) == 0 && ours.st_dev == there.st_dev &&
	    ours.st_ino == there.st_ino)
		return 0;
	if (same_bytes("/proc/self/exe", binary))
		return 0;
	if (!directory)
		return error_oom(err);
	r = fs_mkdirs(directory, 0755, err);
	if (r < 0)
		return r;
	r = fs_copy("/proc/self/exe", binary, 0755, err);
	return r < 0 ? r : 1;
}

static int put_link(const struct paths *p, const char *binary, struct error *err)
{
	_cleanup_free_ char *directory = path_parent(p->bin_link);
	int r;

	if (!directory)
		return error_oom(err);
	r = fs_mkdirs(directory, 0755, err);
	if (r < 0)
		return r;
	return fs_symlink(in_unit(p, binary), p->bin_link, err);
}

/* 1 when the file was written, 0 when it was right already. */
static int put_unit(const struct paths *p, const char *name, const char *template, const char *binary, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_ENVIRONMENT_FILE), there = BUF_INIT(LIMIT_ENVIRONMENT_FILE);
	_cleanup_free_ char *path = path_join(p->units, name);
	int r;

	if (!path)
		return error_oom(err);
	r = buf_fill(&text, template, "@EK_BINARY@", in_unit(p, binary));
	if (r < 0)
		return error_errno(err, r, "%s: cannot make the unit", name);
	if (fs_read(path, LIMIT_ENVIRONMENT_FILE, &there, NULL) == 0 && there.len == text.len &&
	    memcmp(there.data, text.data, text.len) == 0)
		return 0;
	r = fs_write(path, text.data, text.len, 0644, FS_REPLACE, err);
	return r < 0 ? r : 1;
}

static int put_units(const struct paths *p, const char *binary, struct error *err)
{
	int changed = 0, r;

	r = fs_mkdirs(p->units, 0755, err);
	if (r < 0)
		return r;
	/* The service last: where it is, the others are. */
	for (size_t i = ARRAY_SIZE(units); i-- > 0;) {
		r = put_unit(p, units[i].name, units[i].text, binary, err);
		if (r < 0)
			return r;
		changed |= r;
	}
	return changed;
}

/* ---- owner ---- */

static int make_installation_id(char **ret, struct error *err)
{
	unsigned char raw[8];

	if (getrandom(raw, sizeof(raw), 0) != (ssize_t)sizeof(raw))
		return error_errno(err, -errno, "cannot get random bytes");
	*ret = str_format("%02x%02x%02x%02x%02x%02x%02x%02x", raw[0], raw[1], raw[2], raw[3], raw[4], raw[5], raw[6], raw[7]);
	return *ret ? 0 : error_oom(err);
}

static int put_owner(const struct paths *p, const char *kind, bool new_id, struct error *err)
{
	_cleanup_(owner_done) struct owner o = { 0 };
	struct error ignored;
	int r;

	r = owner_read(p, &o, &ignored);
	if (r < 0 || new_id || !str_equal(o.kind, kind)) {
		_cleanup_free_ char *id = NULL;

		r = make_installation_id(&id, err);
		if (r < 0)
			return r;
		r = str_set(&o.installation, id);
	} else {
		r = 0;
	}
	if (r < 0 || str_set(&o.kind, kind) < 0 || str_set(&o.version, EK_VERSION) < 0)
		return error_oom(err);
	return write_document(p, "owner.json", &owner_type, &o, err);
}

/* ---- the service ---- */

/* Another version's, the package's, or this one's before its file was replaced: an installation that was killed before it came
 * to the restart leaves one behind. */
static bool runs_another(struct bus *bus, const char *binary)
{
	_cleanup_free_ char *path = NULL;
	struct stat running, wanted;
	pid_t pid;

	if (bus_main_pid(bus, units[0].name, &pid, NULL) < 0 || pid == 0)
		return false;
	path = str_format("/proc/%d/exe", (int)pid);
	return path && stat(path, &running) == 0 && stat(binary, &wanted) == 0 &&
	       (running.st_dev != wanted.st_dev || running.st_ino != wanted.st_ino);
}

static int start_service(struct bus *bus, const char *binary, bool restart, struct error *err)
{
	int r;

	r = bus_daemon_reload(bus, err);
	if (r < 0)
		return r;
	r = bus_enable_unit(bus, "evenkeel.socket", err);
	if (r < 0)
		return r;
	r = bus_enable_unit(bus, "evenkeel.service", err);
	if (r < 0)
		return r;
	r = bus_unit_job(bus, UNIT_START, "evenkeel.socket", true, err);
	if (r < 0)
		return r;
	restart = restart || runs_another(bus, binary);
	return bus_unit_job(bus, restart ? UNIT_RESTART : UNIT_START, "evenkeel.service", true, err);
}

/* A binary with its units, and nobody of another version in charge. */
bool installation_is_current(const struct paths *p)
{
	_cleanup_(owner_done) struct owner o = { 0 };
	_cleanup_free_ char *binary = installation_binary(p);
	_cleanup_free_ char *unit = path_join(p->units, units[0].name);

	return binary && unit && owner_read(p, &o, NULL) == 0 && str_equal(o.version, EK_VERSION) && fs_exists(binary) &&
	       fs_exists(unit);
}

/* Binaries of versions before the last one: nothing starts them any more. */
static void prune_binaries(const struct paths *p, const char *former)
{
	_cleanup_strv_ char **names = NULL;
	struct error e = ERROR_INIT;

	if (fs_list(p->libexec, 1000, &names, &e) < 0) {
		log_warning("%s", e.msg);
		return;
	}
	for (char **n = names; *n; n++) {
		_cleanup_free_ char *path = path_join(p->libexec, *n);

		if (path && !str_equal(*n, EK_VERSION) && !str_equal(*n, former) && fs_remove_tree(path, &e) < 0)
			log_warning("%s", e.msg);
	}
}

/* 1 when files were written, 0 when they were right already. */
static int put_files(const struct paths *p, const char *binary, struct error *err)
{
	int changed = put_binary(p, binary, err), r;

	if (changed < 0)
		return changed;
	r = put_link(p, binary, err);
	if (r < 0)
		return r;
	r = put_units(p, binary, err);
	return r < 0 ? r : changed || r;
}

/* Before the service is started: systemd looks at them then. */
static void put_labels(const struct paths *p)
{
	struct error e = ERROR_INIT;

	if (installation_label(p, &e) < 0)
		log_warning("SELinux labels are as they were: %s; evenkeel doctor tells whether they are right", e.msg);
}

int installation_put(const struct paths *p, struct bus *bus, const char *kind, bool new_id, struct error *err)
{
	_cleanup_free_ char *binary = installation_binary(p);
	_cleanup_(owner_done) struct owner former = { 0 };
	bool was_current = installation_is_current(p), first;
	int changed, r;

	if (!binary)
		return error_oom(err);
	/* Whose numbers go on counting is in a record that only a later version can read: it would be lost. */
	r = owner_read(p, &former, err);
	if (r == -EPROTO)
		return r;
	first = r < 0;
	r = installation_make_directories(p, err);
	/* Where there is no owner yet, one stands here before anything that is his, so that what a kill leaves can be taken away
	 * again. A former one is replaced only when all is there: else it would pass for complete. */
	if (r >= 0 && first)
		r = put_owner(p, kind, new_id, err);
	if (r < 0)
		return r;
	changed = put_files(p, binary, err);
	if (changed < 0 && first)
		(void)!remove_record(p, "owner.json", NULL);
	if (changed < 0)
		return changed;
	r = first ? 0 : put_owner(p, kind, new_id, err);
	if (r < 0)
		return r;
	put_labels(p);
	if (bus)
		/* A service from before a removal that did not get to its end has let go of everything. */
		r = start_service(bus, binary, changed || !was_current || new_id, err);
	if (r >= 0)
		prune_binaries(p, former.version);
	return r;
}

/* ---- logind's drop-in, which the daemon has made for drain.shutdown ---- */

int installation_remove_logind(const struct paths *p, struct bus *bus, struct error *err)
{
	_cleanup_free_ char *path = path_join(p->logind, LOGIND_DROPIN);
	struct error e = ERROR_INIT;
	int r;

	if (!path)
		return error_oom(err);
	if (!fs_exists(path))
		return 0;
	r = fs_unlink(path, err);
	(void)rmdir(p->logind); /* unless something of others is in it */
	if (r >= 0 && bus && bus_kill_unit(bus, "systemd-logind.service", SIGHUP, &e) < 0)
		log_info("%s, ignoring: logind reads its files when it starts", e.msg);
	return r;
}

/* ---- removal: everything is tried, the first failure is told ---- */

/* Where no manager stops it the daemon ends by itself; until then it may still write. */
static void await_end(const struct paths *p)
{
	usec_t deadline = usec_add(time_boot(), END_USEC);

	while (api_daemon_running(p) && time_boot() < deadline)
		(void)poll(NULL, 0, 20);
}

static void retire_daemon(const struct paths *p, struct bus *bus, struct removal *rm)
{
	struct error e = ERROR_INIT;
	int r;

	if (!api_daemon_running(p))
		return;
	r = api_wait(p, "POST", "/v1/retire", RETIRE_USEC, &e);
	/* Still at it when the agent's patience ends: a script that runs for hours must not keep the extension on the VM. */
	if (r == -EBUSY)
		log_warning("%s; it was waited for %llu s, the removal goes on", e.msg,
			    (unsigned long long)(RETIRE_USEC / USEC_PER_SEC));
	else
		removal_note(rm, r, &e);
	if (r >= 0 && !bus)
		await_end(p);
}

static void stop_units(struct bus *bus, struct removal *rm)
{
	static const char *const stopped[] = { "evenkeel.socket", "evenkeel.service" };

	for (size_t i = 0; bus && i < ARRAY_SIZE(stopped); i++) {
		struct error e = ERROR_INIT;

		removal_note(rm, bus_disable_unit(bus, stopped[i], &e), &e);
		removal_note(rm, bus_unit_job(bus, UNIT_STOP, stopped[i], true, &e), &e);
	}
}

static void remove_units(const struct paths *p, struct bus *bus, struct removal *rm)
{
	struct error e = ERROR_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		_cleanup_free_ char *path = path_join(p->units, units[i].name);

		removal_note(rm, path ? fs_unlink(path, &e) : error_oom(&e), &e);
	}
	if (bus)
		removal_note(rm, bus_daemon_reload(bus, &e), &e);
	removal_note(rm, installation_remove_logind(p, bus, &e), &e);
}

/* A link that leads elsewhere is not ours. */
static void remove_link(const struct paths *p, struct removal *rm)
{
	char target[4096];
	ssize_t n = readlink(p->bin_link, target, sizeof(target) - 1);
	struct error e = ERROR_INIT;

	target[n > 0 ? n : 0] = '\0';
	if (str_starts(target, in_unit(p, p->libexec)))
		removal_note(rm, fs_unlink(p->bin_link, &e), &e);
}

/* A script that still runs keeps its directory: it may be working in it. */
static void remove_jobs(const struct paths *p, struct removal *rm)
{
	_cleanup_strv_ char **names = NULL;
	struct error e = ERROR_INIT;
	int r = fs_list(p->jobs, LIMIT_JOB_DIRECTORIES, &names, &e);

	if (r < 0 && r != -ENOENT)
		removal_note(rm, r, &e);
	for (char **n = names; n && *n; n++) {
		_cleanup_free_ char *directory = path_join(p->jobs, *n);
		_cleanup_free_ char *started = directory ? path_join(directory, "started") : NULL;
		_cleanup_free_ char *result = directory ? path_join(directory, "result.json") : NULL;

		if (!started || !result)
			removal_note(rm, error_oom(&e), &e);
		else if (fs_exists(started) && !fs_exists(result))
			log_warning("%s stays: what runs in it has not ended", directory);
		else
			removal_note(rm, fs_remove_tree(directory, &e), &e);
	}
	(void)rmdir(p->jobs);
}

/* What is enabled stays so all the time, and the service is restarted, never stopped: after a kill it is there, now and after a
 * boot. The package's service goes on with the records, so that nothing of its settings is done again; the extension's goal
 * state must not be among them when it starts. The owner's record goes last. */
static void hand_over(const struct paths *p, struct bus *bus, bool start, struct removal *rm)
{
	static const char *const names[] = { "goal.json", "goal.json.newer", "in-force.json", "upgrade.json" };
	struct error e = ERROR_INIT;

	remove_units(p, bus, rm);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		removal_note(rm, remove_record(p, names[i], &e), &e);
	removal_note(rm, package_take_over(bus, start, &e), &e);
	remove_link(p, rm);
	removal_note(rm, fs_remove_tree(p->libexec, &e), &e);
	if (rm->first == 0)
		removal_note(rm, remove_record(p, "owner.json", &e), &e);
}

int installation_hand_over(const struct paths *p, struct bus *bus, bool start, struct error *err)
{
	struct removal rm = { .err = err };

	hand_over(p, bus, start, &rm);
	return rm.first;
}

int installation_remove(const struct paths *p, struct bus *bus, bool certificates_too, struct error *err)
{
	const char *trees[] = { p->records, p->run, p->libexec, certificates_too ? p->certificates : NULL };
	struct removal rm = { .err = err };

	retire_daemon(p, bus, &rm);
	if (package_is_installed(p)) {
		hand_over(p, bus, true, &rm);
		return rm.first;
	}
	stop_units(bus, &rm);
	remove_units(p, bus, &rm);
	remove_jobs(p, &rm);
	for (size_t i = 0; i < ARRAY_SIZE(trees); i++) {
		struct error e = ERROR_INIT;

		if (trees[i])
			removal_note(&rm, fs_remove_tree(trees[i], &e), &e);
	}
	remove_link(p, &rm);
	/* They stay when somebody's settings or certificates are in them. */
	(void)rmdir(p->etc);
	(void)rmdir(p->certificates);
	(void)rmdir(p->state);
	return rm.first;
}
