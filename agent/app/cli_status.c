/* `evenkeel status`: once, or again each second until it is interrupted. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "agent/app/api_client.h"
#include "agent/app/arguments.h"
#include "agent/app/cli_client.h"
#include "agent/app/status_view.h"
#include "agent/app/verbs.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/core/exit_codes.h"
#include "agent/io/paths.h"

#define AGAIN_MSEC  1000
#define LIMIT_SHOWN (16UL * 1024 * 1024)

#define ALTERNATE_SCREEN "\033[?1049h\033[?25l"
#define NORMAL_SCREEN	 "\033[?25h\033[?1049l"
#define TO_TOP		 "\033[H"
#define REST_OF_LINE	 "\033[K"
#define REST_OF_SCREEN	 "\033[J"

static void view_done(struct status_view *v)
{
	jd_free(&status_view_type, v);
}

static int fail(const struct error *e)
{
	fprintf(stderr, "evenkeel status: %s\n", e->msg);
	return e->code == -EACCES ? EXIT_NOT_PERMITTED : EXIT_FAILED;
}

/* One look, written to `out`. `aloud`: that the service does not answer is told beside it, too. */
static int look(const struct paths *p, bool json, bool aloud, FILE *out)
{
	_cleanup_(view_done) struct status_view v = { 0 };
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_SHOWN);
	struct error e = ERROR_INIT;
	bool running = api_daemon_running(p);
	int r = status_gather(p, running, &v, &e);

	/* It has gone this moment, or does not listen yet, or hangs: who asks hears what can be known all the same. */
	if (r < 0 && running && e.code != -EACCES) {
		if (aloud)
			fprintf(stderr, "evenkeel status: %s\n", e.msg);
		running = false;
		r = status_gather(p, false, &v, &e);
	}
	if (r >= 0 && json)
		r = jd_encode(&status_view_type, &v, false, &text);
	else if (r >= 0)
		r = status_print(&v, cli_columns(), time_wall(), out, &e);
	if (r < 0)
		return e.msg[0] ? fail(&e) : EXIT_FAILED;
	if (json)
		fprintf(out, "%s\n", buf_str(&text));
	return running ? EXIT_OK : EXIT_NOT_RUNNING;
}

/* ---- watching ---- */

static unsigned lines_of_terminal(void)
{
	struct winsize size = { 0 };

	return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 ? size.ws_row : UINT16_MAX;
}

/* Over what stands there, so that nothing flickers; what is longer than the screen ends with it. */
static void draw(const char *text)
{
	unsigned room = lines_of_terminal();

	fputs(TO_TOP, stdout);
	for (unsigned n = 0; *text && n < room; n++) {
		size_t len = strcspn(text, "\n");

		printf("%s%.*s" REST_OF_LINE, n ? "\n" : "", (int)len, text);
		text += len + (text[len] == '\n');
	}
	fputs(REST_OF_SCREEN, stdout);
}

static int look_again(const struct paths *p, bool json, bool screen)
{
	_cleanup_free_ char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	int code;

	if (!out)
		return EXIT_FAILED;
	code = look(p, json, false, out);
	if (fclose(out) != 0)
		return EXIT_FAILED;
	if (screen)
		draw(text);
	else
		printf("%s%s", text, json ? "" : "\n");
	return fflush(stdout) == 0 ? code : EXIT_FAILED;
}

/* Signals are looked at between two looks only: each ends by itself in seconds. */
static int open_signals(void)
{
	sigset_t signals;

	(void)sigemptyset(&signals);
	(void)sigaddset(&signals, SIGINT);
	(void)sigaddset(&signals, SIGTERM);
	(void)sigaddset(&signals, SIGHUP);
	(void)sigaddset(&signals, SIGWINCH);
	if (sigprocmask(SIG_BLOCK, &signals, NULL) < 0)
		return -errno;
	return signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Whether to end: a new size of the terminal only means to draw anew. */
static bool wait_for_end(int signals)
{
	struct pollfd fd = { .fd = signals, .events = POLLIN };
	struct signalfd_siginfo info;

	if (poll(&fd, 1, AGAIN_MSEC) <= 0)
		return false;
	return read(signals, &info, sizeof(info)) == (ssize_t)sizeof(info) && info.ssi_signo != SIGWINCH;
}

static int watch(const struct paths *p, bool json)
{
	_cleanup_close_ int signals = open_signals();
	bool screen = !json && cli_is_terminal();
	int code;

	if (signals < 0) {
		fprintf(stderr, "evenkeel status: %s\n", strerror(errno));
		return EXIT_FAILED;
	}
	if (screen)
		fputs(ALTERNATE_SCREEN, stdout);
	do
		code = look_again(p, json, screen);
	while (code != EXIT_FAILED && code != EXIT_NOT_PERMITTED && !wait_for_end(signals));
	if (screen)
		fputs(NORMAL_SCREEN, stdout);
	(void)fflush(stdout);
	return code == EXIT_NOT_RUNNING ? EXIT_OK : code;
}

/* ---- the verb ---- */

int verb_status(int argc, char **argv)
{
	_cleanup_(paths_done) struct paths p = { 0 };
	struct error e = ERROR_INIT;
	bool json = false, live = false;
	const struct argument arguments[] = { { "--json", .flag = &json }, { "--watch", .flag = &live } };
	int code;

	code = arguments_read("status", arguments, ARRAY_SIZE(arguments), argc, argv);
	if (code != EXIT_OK)
		return code;
	if (paths_init(&p, NULL, &e) < 0)
		return fail(&e);
	if (!api_permitted(&p))
		return cli_not_permitted("status");
	if (live)
		return watch(&p, json);
	if (!api_daemon_running(&p))
		fprintf(stderr, "evenkeel status: the service is not running; this is what its files tell\n");
	code = look(&p, json, true, stdout);
	return fflush(stdout) == 0 ? code : EXIT_FAILED;
}
