/* The commands of the Azure Linux Agent: check, record, start or tell the service, return (extension-contract.md 9; settings.md 3.3). */
#include "agent/app/extension.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/app/api_client.h"
#include "agent/app/goal_request.h"
#include "agent/app/installation.h"
#include "agent/app/verbs.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/core/exit_codes.h"
#include "agent/core/settings.h"
#include "agent/io/bus.h"
#include "agent/io/log_sinks.h"
#include "agent/io/loop.h"
#include "generated/version.h"

/* The agent kills enable and uninstall after 300 s and the others after 900, and meanwhile no extension of this VM gets on. So
 * all waiting for systemd in one command ends after this; with what is waited for the service it stays far below. */
#define MANAGER_USEC (60 * USEC_PER_SEC)

/* The version directory: the agent says it; by hand it is above the binary, two levels (bin/evenkeel) or three
 * (bin/ARCHITECTURE/evenkeel). */
static char *find_directory(void)
{
	const char *told = getenv("AZURE_GUEST_AGENT_EXTENSION_PATH");
	char self[4096];
	ssize_t n;

	if (!str_empty(told))
		return strdup(told);
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	for (int level = 1; n > 0 && level <= 3; level++) {
		_cleanup_free_ char *file = NULL;
		char *slash;

		self[n] = '\0';
		slash = strrchr(self, '/');
		n = slash ? slash - self : 0;
		self[n] = '\0';
		file = n > 0 && level > 1 ? path_join(self, "HandlerEnvironment.json") : NULL;
		if (file && fs_exists(file))
			return strdup(self);
	}
	return getcwd(NULL, 0);
}

void extension_open_log(struct extension *x)
{
	_cleanup_free_ char *path = NULL;

	if (!x->environment.log_folder)
		return;
	path = path_join(x->environment.log_folder, "evenkeel.log");
	if (path && log_file_open(path, (size_t)settings_log_defaults.max_size_bytes,
				  (unsigned)settings_log_defaults.max_files, LOG_LEVEL_INFO, &x->log, NULL) < 0)
		x->log = NULL;
}

int extension_init(struct extension *x, bool need_environment, struct error *err)
{
	const char *version = getenv("AZURE_GUEST_AGENT_EXTENSION_VERSION");
	struct error local = ERROR_INIT;
	int r;

	*x = (struct extension){ 0 };
	log_stderr_add(LOG_LEVEL_ERROR, true);
	log_journal_add(LOG_LEVEL_INFO);
	r = paths_init(&x->paths, NULL, err);
	if (r < 0)
		return r;
	x->directory = find_directory();
	x->version = strdup(str_empty(version) ? EK_VERSION : version);
	if (!x->directory || !x->version)
		return error_oom(err);
	r = handler_environment_read(x->directory, &x->environment, &local);
	if (r < 0 && need_environment) {
		if (err)
			*err = local;
		return r;
	}
	extension_open_log(x);
	return 0;
}

void extension_done(struct extension *x)
{
	log_file_close(x->log);
	log_journal_remove();
	log_stderr_remove();
	handler_environment_done(&x->environment);
	paths_done(&x->paths);
	free(x->version);
	free(x->directory);
}

/* One concise line first: the agent keeps the head of what we print (extension-contract.md 8). */
static int failed(const char *verb, const struct error *e)
{
	log_error("evenkeel %s: %s", verb, e->msg);
	return e->cls == ERROR_USER ? EXIT_USAGE : EXIT_FAILED;
}

int extension_open_manager(const struct extension *x, struct loop **ret_loop, struct bus **ret, struct error *err)
{
	int r = loop_new(ret_loop, err);

	if (r >= 0)
		r = bus_open(ret, *ret_loop, err);
	if (r >= 0)
		bus_set_deadline(*ret, x->deadline);
	return r;
}

struct bus *extension_manager_if_any(const struct extension *x, struct loop **ret_loop)
{
	struct error e = ERROR_INIT;
	struct bus *bus = NULL;

	if (extension_open_manager(x, ret_loop, &bus, &e) < 0)
		log_info("no systemd manager answers: %s", e.msg);
	return bus;
}

/* ---- install, update, disable, uninstall ---- */

/* A file in the directory of the version that an upgrade goes to: the agent deletes that with all in it when the extension is
 * removed, without a command when it has not been installed by then. */
static char *coming_file(const struct extension *x, const char *version)
{
	const char *dash = strrchr(x->directory, '-');

	return dash ? str_format("%.*s-%s/upgrading", (int)(dash - x->directory), x->directory, version) : NULL;
}

/* Part of an upgrade: the numbers go on counting in the same installation (settings.md 3.3). It lasts until an enable. Before
 * that an install may be repeated, its end unseen by an agent that was killed; or, where it has failed, it is followed by
 * that of the former version or of a third one, which look like first installations. */
static bool continues_installation(const struct extension *x)
{
	const char *code = getenv("AZURE_GUEST_AGENT_UNINSTALL_CMD_EXIT_CODE");
	_cleanup_(upgrade_mark_done) struct upgrade_mark mark = { 0 };
	_cleanup_free_ char *coming = NULL;
	int r;

	if (!str_empty(code) && !str_equal(code, "NOT_RUN"))
		return true;
	r = upgrade_mark_read(&x->paths, &mark, NULL);
	if (r < 0)
		return r == -EPROTO;
	coming = coming_file(x, mark.to);
	return coming && fs_exists(coming);
}

static int install(struct extension *x, struct error *err)
{
	_cleanup_(loop_freep) struct loop *loop = NULL;
	_cleanup_(bus_closep) struct bus *bus = extension_manager_if_any(x, &loop);
	bool keep = continues_installation(x);
	int r;

	r = installation_put(&x->paths, bus, "extension", !keep, err);
	if (r < 0)
		return r;
	log_info("version %s is installed%s", x->version, keep ? ", taking over from the version before" : "");
	return keep ? 0 : upgrade_mark_clear(&x->paths, err);
}

/* The new version's command in an upgrade, the old one's in a downgrade; VERSION is the target in both. */
static int update(struct extension *x, struct error *err)
{
	const char *target = getenv("VERSION");
	const char *other = getenv("AZURE_GUEST_AGENT_UPDATING_FROM_VERSION");
	_cleanup_free_ char *coming = NULL;
	struct upgrade_mark mark;
	int r;

	if (str_empty(target))
		target = x->version;
	if (str_empty(other) || str_equal(other, target))
		other = x->version;
	_cleanup_free_ char *from = strdup(other), *to = strdup(target);
	if (!from || !to)
		return error_oom(err);
	mark = (struct upgrade_mark){ .from = from, .to = to };
	r = installation_make_directories(&x->paths, err);
	if (r < 0)
		return r;
	log_info("going over from version %s to %s", from, to);
	coming = coming_file(x, to);
	r = coming ? fs_write(coming, "", 0, 0600, FS_REPLACE, err) : 0;
	return r < 0 && r != -ENOENT ? r : upgrade_mark_write(&x->paths, &mark, err);
}

/* Tells a running daemon to look at goal.json again; one that is stopped stays stopped. */
static int tell_if_running(const struct paths *p, struct error *err)
{
	_cleanup_buf_ struct buf reply = BUF_INIT(LIMIT_API_REPLY);
	int r;

	if (!api_daemon_running(p))
		return 0;
	r = api_call(p, "POST", "/v1/goal", "", EXTENSION_ANSWER_USEC, &reply, err);
	return r < 0 ? r : 0;
}

/* It comes before an upgrade and before a removal alike: only the status folder is taken away. */
static int disable(struct extension *x, struct error *err)
{
	_cleanup_(goal_request_done) struct goal_request g = { 0 };
	struct error e = ERROR_INIT;
	int r;

	(void)err;
	r = goal_request_read(&x->paths, &g, &e);
	if (r < 0) {
		if (r != -ENOENT)
			log_warning("%s; nothing to take away from", e.msg);
		return 0;
	}
	free(TAKE_PTR(g.status_folder));
	/* A disk that is full or cannot be written must not keep the extension on the VM. The service writes its status only where
	 * the folder is, and the agent takes that away. */
	if (goal_request_write(&x->paths, &g, &e) < 0)
		log_warning("%s; the service keeps the status folder until that is gone", e.msg);
	else if (tell_if_running(&x->paths, &e) < 0)
		log_warning("%s; it will see the change when it starts again", e.msg);
	return 0;
}

/* A version that does not own the units, or that hands over to another, touches nothing shared. */
static const char *reason_to_stay(const struct extension *x)
{
	const struct paths *p = &x->paths;
	_cleanup_(upgrade_mark_done) struct upgrade_mark mark = { 0 };
	_cleanup_(owner_done) struct owner owner = { 0 };

	int r = upgrade_mark_read(p, &mark, NULL);

	/* The one that has come and was never enabled is removed like any other. */
	if (r == -EPROTO || (r == 0 && !str_equal(mark.to, x->version)))
		return "another version takes over";
	r = owner_read(p, &owner, NULL);
	if (r == -EPROTO)
		return "a later version owns the service";
	/* What stands there is what the program calls itself; the package may have another number of parts. */
	if (r == 0 &&
	    (!str_equal(owner.version, EK_VERSION) || !str_equal(owner.kind, "extension")))
		return "another version or package owns the service";
	return NULL;
}

static int uninstall(struct extension *x, struct error *err)
{
	_cleanup_(loop_freep) struct loop *loop = NULL;
	_cleanup_(bus_closep) struct bus *bus = NULL;
	const char *stay = reason_to_stay(x);

	if (stay) {
		log_info("version %s leaves; %s, so what is shared stays", x->version, stay);
		return 0;
	}
	x->deadline = usec_add(x->deadline, RETIRE_USEC);
	bus = extension_manager_if_any(x, &loop);
	return installation_remove(&x->paths, bus, false, err);
}

/* ---- the verbs ---- */

static int run_command(const char *verb, bool need_environment, int (*command)(struct extension *, struct error *))
{
	_cleanup_(extension_done) struct extension x = { 0 };
	struct error e = ERROR_INIT;
	int r;

	r = extension_init(&x, need_environment, &e);
	x.deadline = usec_add(time_boot(), MANAGER_USEC);
	if (r >= 0)
		r = command(&x, &e);
	return r < 0 ? failed(verb, &e) : r;
}

static const struct {
	const char *name;
	bool need_environment;
	int (*run)(struct extension *x, struct error *err);
} commands[] = {
	{ "install", true, install },
	{ "enable", true, extension_enable },
	{ "disable", false, disable },
	{ "update", false, update },
	{ "uninstall", false, uninstall },
};

int verb_extension(int argc, char **argv)
{
	(void)argc;
	for (size_t k = 0; k < ARRAY_SIZE(commands); k++)
		if (str_equal(commands[k].name, argv[0]))
			return run_command(argv[0], commands[k].need_environment, commands[k].run);
	return EXIT_USAGE;
}
