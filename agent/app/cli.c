/* The verbs for people: validate, schema, status, and the service's installation by packages. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "agent/app/api_client.h"
#include "agent/app/installation.h"
#include "agent/app/status_view.h"
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

/* ---- validate ---- */

static int usage(const char *text)
{
	fprintf(stderr, "usage: evenkeel %s\n", text);
	return EXIT_USAGE;
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
	if (r < 0)
		return EXIT_INVALID_SETTINGS;
	printf("%s: valid\n", file);
	return EXIT_OK;
}

int verb_validate(int argc, char **argv)
{
	const char *file = NULL, *secrets = NULL;

	for (int i = 1; i < argc; i++) {
		if (str_equal(argv[i], "--secrets") && i + 1 < argc)
			secrets = argv[++i];
		else if (argv[i][0] == '-' || file)
			return usage("validate [--secrets FILE] FILE");
		else
			file = argv[i];
	}
	return file ? validate(file, secrets) : usage("validate [--secrets FILE] FILE");
}

int verb_schema(int argc, char **argv)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_SETTINGS);
	int r = settings_schema(&text);

	(void)argv;
	if (argc > 1)
		return usage("schema");
	if (r < 0) {
		fprintf(stderr, "evenkeel schema: %s\n", strerror(-r));
		return EXIT_FAILED;
	}
	return fwrite(text.data, 1, text.len, stdout) == text.len && putchar('\n') != EOF && fflush(stdout) == 0 ? EXIT_OK :
														    EXIT_FAILED;
}

/* ---- status ---- */

int verb_status(int argc, char **argv)
{
	_cleanup_buf_ struct buf reply = BUF_INIT(LIMIT_API_REPLY);
	_cleanup_(paths_done) struct paths p = { 0 };
	bool json = argc == 2 && str_equal(argv[1], "--json");
	struct winsize size = { 0 };
	struct error e = ERROR_INIT;
	int r;

	if (argc > 1 && !json)
		return usage("status [--json]");
	r = paths_init(&p, NULL, &e);
	if (r >= 0 && !api_daemon_running(&p)) {
		fprintf(stderr, "evenkeel: the service is not running; see: systemctl status evenkeel.service\n");
		return EXIT_NOT_RUNNING;
	}
	if (r >= 0)
		r = api_call(&p, "GET", "/v1/status", NULL, 10 * USEC_PER_SEC, &reply, &e);
	if (r < 0) {
		fprintf(stderr, "evenkeel status: %s\n", e.msg);
		return EXIT_NOT_RUNNING;
	}
	if (r != 200) {
		fprintf(stderr, "evenkeel status: %s", buf_str(&reply));
		return r == 403 ? EXIT_NOT_PERMITTED : EXIT_FAILED;
	}
	if (json) {
		fputs(buf_str(&reply), stdout);
		return EXIT_OK;
	}
	(void)ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
	r = status_view_print(&reply, size.ws_col, stdout, &e);
	if (r < 0)
		fprintf(stderr, "evenkeel status: %s\n", e.msg);
	return r < 0 ? EXIT_FAILED : EXIT_OK;
}

/* ---- orders ---- */

struct message {
	char *text;
};

static const struct jd_type message_text = { .kind = JD_TEXT };

/* clang-format off */
static const struct jd_field message_fields[] = {
	{ "message", &message_text, offsetof(struct message, text) },
	{ "error",   &message_text, offsetof(struct message, text) },
	{ NULL },
};
/* clang-format on */

static const struct jd_type message_type = { .kind = JD_OBJECT, .fields = message_fields, .size = sizeof(struct message) };

static void message_done(struct message *m)
{
	jd_free(&message_type, m);
}

/* Sends the order and prints the one sentence that answers it. */
static int order(const char *verb, const char *argument)
{
	_cleanup_buf_ struct buf reply = BUF_INIT(LIMIT_API_REPLY);
	_cleanup_free_ char *path = str_format("/v1/%s", verb);
	_cleanup_(message_done) struct message m = { 0 };
	_cleanup_(paths_done) struct paths p = { 0 };
	struct error e = ERROR_INIT;
	int r;

	if (!path || paths_init(&p, NULL, &e) < 0)
		return EXIT_FAILED;
	if (!api_daemon_running(&p)) {
		fprintf(stderr, "evenkeel: the service is not running; see: systemctl status evenkeel.service\n");
		return EXIT_NOT_RUNNING;
	}
	r = api_call(&p, "POST", path, argument, 10 * USEC_PER_SEC, &reply, &e);
	if (r < 0 || jd_decode_document(buf_str(&reply), reply.len, "the answer", LIMIT_API_REPLY, &message_type, &m, &e) < 0) {
		fprintf(stderr, "evenkeel %s: %s\n", verb, e.msg);
		return EXIT_FAILED;
	}
	fprintf(r == 200 ? stdout : stderr, "%s\n", m.text ? m.text : "");
	return r == 200 ? EXIT_OK : r == 403 ? EXIT_NOT_PERMITTED : EXIT_FAILED;
}

int verb_drain(int argc, char **argv)
{
	if (argc > 2 || (argc == 2 && argv[1][0] == '-'))
		return usage("drain [REASON]");
	return order("drain", argc == 2 ? argv[1] : "");
}

int verb_restore(int argc, char **argv)
{
	if (argc > 2 || (argc == 2 && !str_equal(argv[1], "--force")))
		return usage("restore [--force]");
	return order("restore", argc == 2 ? "force" : "");
}

int verb_ack(int argc, char **argv)
{
	return argc == 2 && argv[1][0] != '-' ? order("ack", argv[1]) : usage("ack EVENT-ID");
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

/* Before the files go: what is drained is restored. Nothing running means nothing to restore. */
static int service_retire(const struct paths *p, struct bus *bus, struct error *err)
{
	(void)bus;
	return api_daemon_running(p) ? api_wait(p, "POST", "/v1/retire", RETIRE_USEC, err) : 0;
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
		return usage("service install | remove | retire");
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
