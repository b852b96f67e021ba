/* The screen of `evenkeel status`: the deployment's document, rows, and times in words. */
#include "agent/app/status_screen.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "agent/app/cli_client.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"

#define LEVEL_WIDTH 8

/* ---- the deployment's document ---- */

struct entry {
	struct body body;
};

struct deployment_view {
	struct jd_list entries; /* of struct entry, one */
};

static const struct jd_type text_type = { .kind = JD_TEXT };

/* clang-format off */
static const struct jd_field message_fields[] = {
	{ "message", &text_type, offsetof(struct message, text) },
	{ NULL },
};
static const struct jd_type message_type = { .kind = JD_OBJECT, .fields = message_fields, .size = sizeof(struct message) };

static const struct jd_field item_fields[] = {
	{ "name",             &text_type,    offsetof(struct item, name) },
	{ "status",           &text_type,    offsetof(struct item, level) },
	{ "formattedMessage", &message_type, offsetof(struct item, message) },
	{ NULL },
};
static const struct jd_type item_type = { .kind = JD_OBJECT, .fields = item_fields, .size = sizeof(struct item) };
static const struct jd_type items_type = { .kind = JD_LIST, .max = 1000, .element = &item_type };

static const struct jd_field body_fields[] = {
	{ "status",           &text_type,    offsetof(struct body, top) },
	{ "formattedMessage", &message_type, offsetof(struct body, message) },
	{ "substatus",        &items_type,   offsetof(struct body, items) },
	{ NULL },
};
static const struct jd_type body_type = { .kind = JD_OBJECT, .fields = body_fields, .size = sizeof(struct body) };

static const struct jd_field entry_fields[] = {
	{ "status", &body_type, offsetof(struct entry, body), JD_REQUIRED },
	{ NULL },
};
static const struct jd_type entry_type = { .kind = JD_OBJECT, .fields = entry_fields, .size = sizeof(struct entry) };
static const struct jd_type entries_type = { .kind = JD_LIST, .min = 1, .max = 1, .element = &entry_type };
/* clang-format on */

/* ---- rows ---- */

static enum cli_color color_of(const char *level)
{
	static const struct {
		const char *word;
		enum cli_color color;
	} colors[] = { { "success", COLOR_GOOD },
		       { "yes", COLOR_GOOD },
		       { "error", COLOR_BAD },
		       { "warning", COLOR_WARNING },
		       { "transitioning", COLOR_WARNING } };

	for (size_t i = 0; i < ARRAY_SIZE(colors); i++)
		if (str_equal(level, colors[i].word))
			return colors[i].color;
	return COLOR_PLAIN;
}

static void print_padded(FILE *out, const char *text, size_t width, enum cli_color color)
{
	fprintf(out, "%s%s%s", cli_color(color), text, cli_color(COLOR_PLAIN));
	for (size_t n = strlen(text); n < width; n++)
		(void)fputc(' ', out);
}

/* Bytes of at most that many characters. */
static size_t cut_at(const char *text, size_t len, size_t characters)
{
	size_t at = 0;

	while (at < len && characters > 0) {
		enum utf8_kind kind;

		at += utf8_next(text + at, len - at, &kind);
		characters--;
	}
	return at;
}

void screen_row(const struct screen *s, const char *label, const char *level, const char *format, ...)
{
	char text[SCREEN_ROW_MAX];
	size_t used = SCREEN_LABEL_WIDTH, len;
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	len = strcspn(text, "\n");
	/* What followed it was a script's output. */
	while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == ':'))
		len--;
	print_padded(s->out, label, SCREEN_LABEL_WIDTH, COLOR_STRONG);
	if (level) {
		size_t width = strlen(level) < LEVEL_WIDTH ? LEVEL_WIDTH : strlen(level);

		print_padded(s->out, level, width + 1, color_of(level));
		used += width + 1;
	}
	if (s->columns)
		len = cut_at(text, len, s->columns > used ? s->columns - used : 0);
	for (size_t i = 0; i < len; i++)
		(void)fputc((unsigned char)text[i] < ' ' || text[i] == 0x7f ? ' ' : text[i], s->out);
	(void)fputc('\n', s->out);
}

/* ---- times in words ---- */

usec_t screen_time(const char *time)
{
	usec_t wall;

	return !time || timefmt_parse(time, &wall, NULL) < 0 ? 0 : wall;
}

const char *screen_distance(const struct screen *s, usec_t wall, char out[static 2 * TIMEFMT_MAX])
{
	usec_t away = wall >= s->now ? wall - s->now : s->now - wall;
	char span[TIMEFMT_MAX];

	timefmt_span(away / USEC_PER_SEC * USEC_PER_SEC, span);
	if (away < USEC_PER_SEC)
		(void)snprintf(out, 2 * TIMEFMT_MAX, "now");
	else
		(void)snprintf(out, 2 * TIMEFMT_MAX, wall >= s->now ? "in %s" : "%s ago", span);
	return out;
}

/* ---- the whole ---- */

int status_print(const struct status_view *v, unsigned columns, usec_t now_wall, FILE *out, struct error *err)
{
	struct deployment_view document = { 0 };
	struct screen s = { .out = out, .columns = columns, .now = now_wall, .v = v };
	int r = 0;

	if (v->status)
		r = jd_decode_document(v->status, strlen(v->status), "status", LIMIT_API_REPLY, &entries_type,
				       &document.entries, err);
	if (r < 0)
		return r;
	if (v->status)
		s.body = &((const struct entry *)document.entries.items)->body;
	screen_rows(&s);
	jd_free(&entries_type, &document.entries);
	return ferror(out) ? error_errno(err, -EIO, "the screen cannot be written") : 0;
}
