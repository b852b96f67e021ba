/* The verbs for people: validate, schema, and the service's installation by packages. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/app/api_client.h"
#include "agent/app/arguments.h"
#include "agent/app/cli_client.h"
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
#include "agent/io/paths.h"
#include "handlers/common/handler.h"

/* ---- validate ---- */

/* What is valid anywhere but cannot be done on this machine. */
static int check_machine(const struct settings *s, struct error *err)
{
	_cleanup_(paths_done) struct paths p = { 0 };
	int r = paths_init(&p, NULL, err);

	return r < 0 ? r : drain_class.check(&p, s, err);
}

static int validate(const char *file, const char *secrets_file)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_SETTINGS), secrets = BUF_SECRET_INIT(LIMIT_SETTINGS);
	_cleanup_(settings_done) struct settings s = { 0 };
	_cleanup_(jd_report_done) struct jd_report report = { 0 };
	struct settings_source source = { .door = DOOR_EXTENSION, .name = "settings" };
	struct error e = ERROR_INIT;
	int r;

	r = fs_read(file, LIMIT_SETTINGS, &text, &e);
	if (r >= 0 && secrets_file)
		r = fs_read(secrets_file, LIMIT_SETTINGS, &secrets, &e);
	if (r < 0) {
		fprintf(stderr, "evenkeel validate: %s\n", e.msg);
		return EXIT_FAILED;
	}
	source.public_text = buf_str(&text);
	source.public_len = text.len;
	source.protected_text = secrets.data;
	source.protected_len = secrets.len;
	r = settings_load(&source, 1, &s, &report, &e);
	for (unsigned i = 0; i < report.n_errors; i++)
		fprintf(stderr, "%s\n", report.errors[i]);
	if (r < 0 && report.n_errors == 0)
		fprintf(stderr, "%s\n", e.msg);
	if (report.n_errors_found > report.n_errors)
		fprintf(stderr, "and %u more\n", report.n_errors_found - report.n_errors);
	for (unsigned i = 0; i < report.n_warnings; i++)
		fprintf(stderr, "warning: %s\n", report.warnings[i]);
	if (r >= 0) {
		r = check_machine(&s, &e);
		if (r < 0)
			fprintf(stderr, "settings: %s\n", e.msg);
	}
	if (r < 0)
		return EXIT_INVALID_SETTINGS;
	printf("%s: valid\n", file);
	return EXIT_OK;
}

int verb_validate(int argc, char **argv)
{
	const char *file = NULL, *secrets = NULL;
	const struct argument arguments[] = { { "--secrets", .text = &secrets }, { .word = &file } };
	int code = arguments_read("validate", arguments, ARRAY_SIZE(arguments), argc, argv);

	if (code != EXIT_OK)
		return code;
	return file ? validate(file, secrets) : cli_usage("validate");
}

int verb_schema(int argc, char **argv)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_SETTINGS);
	int r = settings_schema(&text);

	(void)argv;
	if (argc > 1)
		return cli_usage("schema");
	if (r < 0) {
		fprintf(stderr, "evenkeel schema: %s\n", strerror(-r));
		return EXIT_FAILED;
	}
	return fwrite(text.data, 1, text.len, stdout) == text.len && putchar('\n') != EOF && fflush(stdout) == 0 ? EXIT_OK :
														    EXIT_FAILED;
}

/* ---- service ---- */

static int service_install(const struct paths *p, struct bus *bus, struct error *err)
{
	return installation_put(p, bus, "vm-application", false, err);
}

static int service_remove(const struct paths *p, struct bus *bus, struct error *err)
{
	_cleanup_(owner_done) struct owner o = { 0 };

	if (owner_read(p, &o, NULL) == 0 && !str_equal(o.kind, "vm-application"))
		return error_set(err, ERROR_USER, -EBUSY, "the service belongs to the %s (version %s); remove that instead", o.kind,
				 o.version);
	return installation_remove(p, bus, false, err);
}

/* Before the package's files go: what is drained is restored, and logind is as it was. Nothing running means nothing to
 * restore, and another owner's service is none of the package's business. */
static int service_retire(const struct paths *p, struct bus *bus, struct error *err)
{
	_cleanup_(owner_done) struct owner o = { 0 };
	int r;

	if (owner_read(p, &o, NULL) == 0) {
		printf("evenkeel: the service belongs to the %s (version %s), and goes on\n", o.kind, o.version);
		return 0;
	}
	if (api_daemon_running(p))
		cli_note_wait("restoring what is drained, 4 minutes at most");
	r = api_daemon_running(p) ? api_wait(p, "POST", "/v1/retire", RETIRE_USEC, err) : 0;
	return r < 0 ? r : installation_remove_logind(p, bus, err);
}

static const struct {
	const char *name;
	int (*run)(const struct paths *p, struct bus *bus, struct error *err);
} service_verbs[] = {
	{ "install", service_install },
	{ "remove", service_remove },
	{ "retire", service_retire },
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
