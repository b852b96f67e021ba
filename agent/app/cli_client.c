/* What the verbs for people share. */
#include "agent/app/cli_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "agent/app/api_client.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/base/time.h"
#include "agent/codec/json.h"
#include "agent/core/exit_codes.h"
#include "agent/io/paths.h"

#define SECONDS_MAX   (7 * 86400)
#define TABLE_GAP     2
#define TABLE_COLUMNS 16

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

static const struct jd_type message_type = { .kind = JD_OBJECT,
					     .fields = message_fields,
					     .size = sizeof(struct message) };

static void message_done(struct message *m)
{
	jd_free(&message_type, m);
}

int cli_not_permitted(const char *verb)
{
	const char *blank = verb ? " " : "";

	verb = verb ? verb : "";
	fprintf(stderr, "evenkeel%s%s: only root may ask this; try: sudo evenkeel%s%s\n", blank, verb, blank, verb);
	return EXIT_NOT_PERMITTED;
}

bool cli_duration(const char *text, uint64_t *ret)
{
	static const struct {
		const char *suffix;
		uint64_t seconds;
	} units[] = { { "min", 60 }, { "m", 60 }, { "h", 3600 }, { "s", 1 }, { "", 1 } };

	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		size_t n = strlen(text), s = strlen(units[i].suffix);
		_cleanup_free_ char *number = NULL;

		if (!str_ends(text, units[i].suffix))
			continue;
		number = strndup(text, n - s);
		if (!number || !str_to_u64(number, SECONDS_MAX, ret) || *ret * units[i].seconds > SECONDS_MAX)
			return false;
		*ret *= units[i].seconds;
		return true;
	}
	return false;
}

int cli_bad_duration(const char *text)
{
	fprintf(stderr, "evenkeel: \"%s\" is no duration; write 90, 90s, 15min or 2h, 7 days at most\n", text);
	return EXIT_USAGE;
}

int cli_open(struct paths *p)
{
	struct error e = ERROR_INIT;

	if (paths_init(p, NULL, &e) < 0) {
		fprintf(stderr, "evenkeel: %s\n", e.msg);
		return EXIT_FAILED;
	}
	if (!api_permitted(p))
		return cli_not_permitted(NULL);
	if (!api_daemon_running(p)) {
		fprintf(stderr, "evenkeel: the service is not running; see: systemctl status evenkeel.service\n");
		return EXIT_NOT_RUNNING;
	}
	return EXIT_OK;
}

static int code_of_status(int status)
{
	return status == 200 ? EXIT_OK : status == 403 ? EXIT_NOT_PERMITTED : EXIT_FAILED;
}

/* The sentence of a reply that is one: its "message" or "error". */
static int print_sentence(const char *verb, int status, const struct buf *reply)
{
	_cleanup_(message_done) struct message m = { 0 };
	struct error e = ERROR_INIT;
	const char *text;

	if (jd_decode_document(buf_str(reply), reply->len, "the answer", LIMIT_API_REPLY, &message_type, &m, &e) < 0) {
		fprintf(stderr, "evenkeel %s: %s\n", verb, e.msg);
		return EXIT_FAILED;
	}
	text = m.text ? m.text : "";
	fprintf(status == 200 ? stdout : stderr, "%s%s", text, str_ends(text, "\n") ? "" : "\n");
	return code_of_status(status);
}

int cli_refused(const char *verb, int status, const struct buf *reply)
{
	return print_sentence(verb, status, reply);
}

int cli_order(const struct paths *p, const char *verb, const char *path, const char *argument)
{
	_cleanup_buf_ struct buf reply = BUF_INIT(LIMIT_API_REPLY);
	struct error e = ERROR_INIT;
	int r = api_call(p, "POST", path, argument, CLI_ANSWER_USEC, &reply, &e);

	if (r < 0) {
		fprintf(stderr, "evenkeel %s: %s\n", verb, e.msg);
		return EXIT_FAILED;
	}
	return print_sentence(verb, r, &reply);
}

int cli_order_alone(const char *verb, const char *path, const char *argument)
{
	_cleanup_(paths_done) struct paths p = { 0 };
	int code = cli_open(&p);

	return code == EXIT_OK ? cli_order(&p, verb, path, argument) : code;
}

int cli_get(const struct paths *p, const char *verb, const char *path, struct buf *text)
{
	struct error e = ERROR_INIT;
	int r = api_call(p, "GET", path, NULL, CLI_ANSWER_USEC, text, &e);

	if (r < 0) {
		fprintf(stderr, "evenkeel %s: %s\n", verb, e.msg);
		return EXIT_NOT_RUNNING;
	}
	return r == 200 ? EXIT_OK : print_sentence(verb, r, text);
}

int cli_look(const struct paths *p, const char *verb, const char *path, const struct jd_type *type, struct buf *text,
	     void *ret)
{
	struct error e = ERROR_INIT;
	int code = cli_get(p, verb, path, text);

	if (code == EXIT_OK &&
	    jd_decode_document(buf_str(text), text->len, "the answer", LIMIT_API_REPLY, type, ret, &e) < 0) {
		fprintf(stderr, "evenkeel %s: %s\n", verb, e.msg);
		return EXIT_FAILED;
	}
	return code;
}

unsigned cli_columns(void)
{
	struct winsize size = { 0 };

	return isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

bool cli_is_terminal(void)
{
	const char *term = getenv("TERM");

	return isatty(STDOUT_FILENO) && term && !str_equal(term, "dumb");
}

const char *cli_color(enum cli_color color)
{
	static const char *const codes[] = {
		[COLOR_PLAIN] = "\033[0m", [COLOR_STRONG] = "\033[1m",	 [COLOR_GOOD] = "\033[32m",
		[COLOR_WARNING] = "\033[33m", [COLOR_BAD] = "\033[31m", [COLOR_FAINT] = "\033[2m",
	};

	return cli_is_terminal() && str_empty(getenv("NO_COLOR")) ? codes[color] : "";
}

void cli_note_wait(const char *what)
{
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "%s ...\n", what);
}

/* Characters, not bytes; double width is rare in what we print. */
static size_t width_of(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

static void print_cell(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		(void)putchar((unsigned char)text[i] < ' ' || text[i] == 0x7f ? ' ' : text[i]);
}

void cli_table(const char *const *cells, size_t rows, size_t columns)
{
	size_t widths[TABLE_COLUMNS] = { 0 }, terminal = cli_columns();

	if (columns > TABLE_COLUMNS)
		return;
	for (size_t i = 0; i < rows * columns; i++) {
		size_t width = width_of(cells[i] ? cells[i] : "-");

		if (width > widths[i % columns])
			widths[i % columns] = width;
	}
	for (size_t row = 0; row < rows; row++) {
		size_t at = 0;

		for (size_t c = 0; c < columns; c++) {
			const char *text = cells[row * columns + c] ? cells[row * columns + c] : "-";
			size_t len = strlen(text), last = c + 1 == columns;

			if (last && terminal > at)
				len = utf8_cut(text, len, terminal - at);
			print_cell(text, len);
			for (size_t pad = width_of(text); !last && pad < widths[c] + TABLE_GAP; pad++)
				(void)putchar(' ');
			at += widths[c] + TABLE_GAP;
		}
		(void)putchar('\n');
	}
}
