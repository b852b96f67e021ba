/*
 * `evenkeel scripts run FILE`: the file as a job of the service, its output as it comes, its exit code as ours.
 *
 * How the file reaches the service: this command reads it as whoever calls it, so that no path is opened with the service's
 * rights or in its sandbox, and writes it in the form of the settings' scripts below run/jobs, where only root may look. The
 * order names that file; the service reads it once, removes it, holds it against the rules of the settings and makes the job.
 * The content does not pass the API, whose requests are small (LIMIT_LISTENER_REQUEST), and the job is the service's from
 * its first moment: it outlives this terminal, is listed, capped, kept and removed like every other.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "agent/app/api_client.h"
#include "agent/app/arguments.h"
#include "agent/app/cli_client.h"
#include "agent/app/cli_scripts.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/base64.h"
#include "agent/codec/json.h"
#include "agent/core/exit_codes.h"
#include "agent/core/settings_script.h"
#include "agent/io/paths.h"
#include "handlers/custom_script/script_runs.h"

#define SCRIPT_MAX  (LIMIT_SCRIPT_ENCODED / 4 * 3) /* what base64 makes LIMIT_SCRIPT_ENCODED of */
#define NAME_LENGTH 63
#define SECONDS_MAX 604800
#define VERB	    "scripts run"

struct run_options {
	const char *file, *user;
	char name[NAME_LENGTH + 1];
	uint64_t timeout_seconds;
	char **arguments;
	size_t n_arguments;
};

/* The file's name, as far as a script's name may be like it. */
static void name_of(const char *file, char name[static NAME_LENGTH + 1])
{
	const char *from = strrchr(file, '/') ? strrchr(file, '/') + 1 : file;
	size_t n = 0;

	for (; *from && n < NAME_LENGTH; from++) {
		bool letter = (*from >= 'a' && *from <= 'z') || (*from >= 'A' && *from <= 'Z') || (*from >= '0' && *from <= '9');

		if (letter || (n > 0 && strchr("._-", *from)))
			name[n++] = *from;
	}
	name[n] = '\0';
	if (n == 0)
		memcpy(name, "script", sizeof("script"));
}

static int read_options(int argc, char **argv, struct run_options *o)
{
	const char *name = NULL;
	char **rest = NULL;
	const struct argument arguments[] = { { "--name", .text = &name },
					      { "--user", .text = &o->user },
					      { "--timeout", .number = &o->timeout_seconds, .max = SECONDS_MAX },
					      { .rest = &rest } };
	int code = arguments_read(VERB, arguments, ARRAY_SIZE(arguments), argc, argv);

	if (code != EXIT_OK)
		return code;
	if (!rest || (name && strlen(name) > NAME_LENGTH))
		return cli_usage(VERB);
	o->file = rest[0];
	o->arguments = rest + 1;
	o->n_arguments = (size_t)(argv + argc - o->arguments);
	if (name)
		(void)snprintf(o->name, sizeof(o->name), "%s", name);
	else
		name_of(o->file, o->name);
	return EXIT_OK;
}

static int read_script(const char *file, char **ret, struct error *err)
{
	_cleanup_buf_ struct buf bytes = BUF_SECRET_INIT(SCRIPT_MAX), text = BUF_SECRET_INIT(2 * LIMIT_SCRIPT_ENCODED);
	int r = fs_read(file, SCRIPT_MAX, &bytes, err);

	if (r == -EFBIG)
		return error_set(err, ERROR_USER, r,
				 "%s is larger than the %lu KiB that a script may have; run a small one that calls it by its path", file,
				 SCRIPT_MAX / 1024);
	if (r < 0)
		return r;
	if (bytes.len == 0)
		return error_set(err, ERROR_USER, -EINVAL, "%s is empty", file);
	r = base64_encode(bytes.data, bytes.len, &text);
	*ret = r < 0 ? NULL : strdup(buf_str(&text));
	return *ret ? 0 : error_oom(err);
}

static int set_arguments(const struct run_options *o, struct script_settings *s)
{
	char **list = calloc(o->n_arguments + 1, sizeof(*list));

	if (!list)
		return -ENOMEM;
	free(s->arguments.items);
	s->arguments = (struct jd_list){ list, o->n_arguments };
	for (size_t i = 0; i < o->n_arguments; i++) {
		list[i] = strdup(o->arguments[i]);
		if (!list[i])
			return -ENOMEM;
	}
	return 0;
}

/* One script in the settings' form, every default resolved. */
static int make_script(const struct run_options *o, struct buf *ret, struct error *err)
{
	static const char base[] = "{\"name\":\"script\"}";
	struct script_settings s = { 0 };
	int r = script_settings_decode(base, sizeof(base) - 1, &s, err);

	if (r < 0)
		return r;
	r = read_script(o->file, &s.script.text, err);
	if (r >= 0) {
		s.timeout_seconds = (int64_t)o->timeout_seconds;
		if (str_set(&s.name, o->name) < 0 || (o->user && str_set(&s.run_as, o->user) < 0) || set_arguments(o, &s) < 0)
			r = error_oom(err);
	}
	if (r >= 0 && jd_encode(&script_settings_type, &s, false, ret) < 0)
		r = error_set(err, ERROR_USER, -E2BIG, "the arguments are too long");
	jd_free(&script_settings_type, &s);
	return r;
}

static char *new_job_id(const char *name)
{
	_cleanup_free_ char *slug = script_slug(name);
	uint64_t random = 0;

	if (!slug || getrandom(&random, sizeof(random), 0) < 0)
		return NULL;
	return str_format(SCRIPT_HAND_PREFIX "%s-%016" PRIx64, slug, random);
}

/* The order, and the sentence that answers it only when it is a refusal. */
static int order(const struct paths *p, const char *id)
{
	_cleanup_buf_ struct buf reply = BUF_INIT(LIMIT_API_REPLY);
	struct error e = ERROR_INIT;
	int r = api_call(p, "POST", "/v1/scripts/run", id, CLI_ANSWER_USEC, &reply, &e);

	if (r < 0) {
		fprintf(stderr, "evenkeel " VERB ": %s\n", e.msg);
		return EXIT_NOT_RUNNING;
	}
	return r == 200 ? EXIT_OK : cli_refused(VERB, r, &reply);
}

static int hand_over(const struct paths *p, const struct run_options *o, char **ret_id)
{
	_cleanup_buf_ struct buf text = BUF_SECRET_INIT(2 * LIMIT_SCRIPT_ENCODED);
	_cleanup_free_ char *id = new_job_id(o->name), *path = id ? script_hand_file(p, id) : NULL;
	struct error e = ERROR_INIT;
	int r = path ? make_script(o, &text, &e) : error_oom(&e), code;

	if (r >= 0)
		r = fs_mkdirs(p->run_jobs, 0700, &e);
	if (r >= 0)
		r = fs_write(path, text.data, text.len, 0600, FS_KEEP | FS_NO_SYNC, &e);
	if (r < 0) {
		fprintf(stderr, "evenkeel " VERB ": %s\n", e.msg);
		return EXIT_FAILED;
	}
	code = order(p, id);
	if (code == EXIT_OK)
		*ret_id = TAKE_PTR(id);
	else
		(void)unlink(path);
	return code;
}

/* ---- the terminal goes, the job stays ---- */

static void on_interrupt(int signo)
{
	static const char text[] = "\nevenkeel " VERB ": it runs on; evenkeel scripts shows it\n";

	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		_exit(VERDICT_SIGNAL + signo);
	_exit(VERDICT_SIGNAL + signo);
}

int scripts_run(int argc, char **argv)
{
	struct sigaction interrupted = { .sa_handler = on_interrupt };
	_cleanup_(paths_done) struct paths p = { 0 };
	_cleanup_free_ char *id = NULL;
	struct run_options o = { 0 };
	int code = read_options(argc, argv, &o);

	if (code == EXIT_OK)
		code = scripts_open(VERB, &p);
	if (code == EXIT_OK && !api_daemon_running(&p)) {
		fprintf(stderr, "evenkeel " VERB ": the service is not running; see: systemctl status evenkeel.service\n");
		code = EXIT_NOT_RUNNING;
	}
	if (code == EXIT_OK)
		code = hand_over(&p, &o, &id);
	if (code != EXIT_OK)
		return code;
	(void)sigaction(SIGINT, &interrupted, NULL);
	return scripts_print(&p, VERB, id, LOGS_LIVE, true);
}
