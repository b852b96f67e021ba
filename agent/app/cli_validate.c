/* `evenkeel validate` and `evenkeel schema`: settings before they are used. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/app/arguments.h"
#include "agent/app/verbs.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/core/exit_codes.h"
#include "agent/core/settings.h"
#include "agent/io/paths.h"
#include "handlers/common/handler.h"

/* What is valid anywhere but cannot be done on this machine. */
static int check_machine(const struct settings *s, struct error *err)
{
	_cleanup_(paths_done) struct paths p = { 0 };
	int r = paths_init(&p, NULL, err);

	return r < 0 ? r : drain_class.check(&p, s, err);
}

static bool asks_for_nothing(const struct settings *s)
{
	return !s->custom_script && !s->key_refresh && !s->drain && !s->user_data && !s->health && !s->notify &&
	       !s->network && !s->log;
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
	if (r < 0 && !secrets_file && strstr(buf_str(&text), "secretRef"))
		fprintf(stderr, "the values of secrets come from another document: --secrets FILE\n");
	if (r >= 0) {
		r = check_machine(&s, &e);
		if (r < 0)
			fprintf(stderr, "settings: %s\n", e.msg);
	}
	if (r < 0)
		return EXIT_INVALID_SETTINGS;
	printf("%s: valid%s\n", file, asks_for_nothing(&s) ? "; it has no section, so nothing will be done" : "");
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
