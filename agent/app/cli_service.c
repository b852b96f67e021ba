/* `evenkeel service`: what packages do with the service when they are installed and removed. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/app/api_client.h"
#include "agent/app/arguments.h"
#include "agent/app/beside.h"
#include "agent/app/cli_client.h"
#include "agent/app/goal_request.h"
#include "agent/app/installation.h"
#include "agent/app/verbs.h"
#include "agent/base/cleanup.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/core/exit_codes.h"
#include "agent/io/bus.h"
#include "agent/io/log_sinks.h"
#include "agent/io/loop.h"
#include "agent/io/paths.h"

static int service_install(const struct paths *p, struct bus *bus, struct error *err)
{
	return installation_put(p, bus, "vm-application", false, err);
}

static int service_remove(const struct paths *p, struct bus *bus, struct error *err)
{
	_cleanup_(owner_done) struct owner o = { 0 };
	int r = owner_read(p, &o, err);

	if (r == -EPROTO)
		return r;
	if (r == 0 && !str_equal(o.kind, "vm-application"))
		return error_set(err, ERROR_USER, -EBUSY, "the service belongs to the %s (version %s); remove that instead", o.kind,
				 o.version);
	return installation_remove(p, bus, false, err);
}

/* Before the package's files go: what is drained is restored, and logind is as it was. Nothing running means nothing to
 * restore, and another owner's service is none of the package's business. */
static int service_retire(const struct paths *p, struct bus *bus, struct error *err)
{
	_cleanup_(owner_done) struct owner o = { 0 };
	int r = owner_read(p, &o, NULL);

	if (r == -EPROTO)
		puts("evenkeel: the service belongs to a later version, and goes on");
	if (r == 0)
		printf("evenkeel: the service belongs to the %s (version %s), and goes on\n", o.kind, o.version);
	if (r == 0 || r == -EPROTO)
		return 0;
	if (api_daemon_running(p))
		cli_note_wait("restoring what is drained, 4 minutes at most");
	r = api_daemon_running(p) ? api_wait(p, "POST", "/v1/retire", RETIRE_USEC, err) : 0;
	return r < 0 ? r : installation_remove_logind(p, bus, err);
}

/* What the Azure agent has left out when it dropped the extension: its uninstall. */
static int service_leave(const struct paths *p, struct bus *bus, struct error *err)
{
	_cleanup_(goal_request_done) struct goal_request goal = { 0 };
	int r = goal_request_read(p, &goal, err);

	if (r == -EPROTO)
		return r;
	if (!extension_has_vanished(p, goal.config_folder))
		return error_set(err, ERROR_USER, -EBUSY, "the service is not one that a vanished extension has left behind");
	return installation_remove(p, bus, false, err);
}

static const struct {
	const char *name;
	int (*run)(const struct paths *p, struct bus *bus, struct error *err);
} service_verbs[] = {
	{ "install", service_install },
	{ "remove", service_remove },
	{ "retire", service_retire },
	{ "leave", service_leave },
};

int verb_service(int argc, char **argv)
{
	_cleanup_(paths_done) struct paths p = { 0 };
	_cleanup_(loop_freep) struct loop *loop = NULL;
	_cleanup_(bus_closep) struct bus *bus = NULL;
	struct error e = ERROR_INIT;
	size_t verb = 0;
	int r;

	while (argc == 2 && verb < ARRAY_SIZE(service_verbs) && !str_equal(argv[1], service_verbs[verb].name))
		verb++;
	if (argc != 2 || verb == ARRAY_SIZE(service_verbs))
		return cli_usage("service");
	log_stderr_add(LOG_LEVEL_WARNING, true);
	r = paths_init(&p, NULL, &e);
	if (r >= 0)
		r = loop_new(&loop, &e);
	if (r >= 0 && bus_open(&bus, loop, &e) < 0)
		fprintf(stderr, "evenkeel: no systemd manager answers; files only (%s)\n", e.msg);
	if (r >= 0)
		r = service_verbs[verb].run(&p, bus, &e);
	if (r < 0)
		fprintf(stderr, "evenkeel service %s: %s\n", argv[1], e.msg);
	log_stderr_remove();
	return r < 0 ? EXIT_FAILED : EXIT_OK;
}
