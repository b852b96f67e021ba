/* Notices: who wants which, and their four shapes. */
#include "agent/core/notice.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/digest.h"
#include "agent/codec/timefmt.h"
#include "agent/core/settings_common.h"

#define MESSAGE_MAX 1024
#define SUBJECT_MAX 256

static const char *const kinds[] = {
	"event", "drain", "acknowledge", "restore", "script", "certificate", "userData", "problem", NULL,
};

static const struct jd_type st_text = { .kind = JD_TEXT };
static const struct jd_type st_number = { .kind = JD_INTEGER };
static const struct jd_type st_flag = { .kind = JD_BOOLEAN };
static const struct jd_type st_kind = { .kind = JD_CHOICE, .names = kinds };

/* clang-format off */
static const struct jd_field notice_fields[] = {
	{ "number",    &st_number, offsetof(struct notice, number),     0 },
	{ "kind",      &st_kind,   offsetof(struct notice, kind),       JD_REQUIRED },
	{ "problem",   &st_flag,   offsetof(struct notice, problem),    0 },
	{ "subject",   &st_text,   offsetof(struct notice, subject),    0 },
	{ "message",   &st_text,   offsetof(struct notice, message),    JD_REQUIRED },
	{ "eventType", &st_text,   offsetof(struct notice, event_type), 0 },
	{ "wallUsec",  &st_number, offsetof(struct notice, wall_usec),  0 },
	{ NULL },
};
/* clang-format on */

const struct jd_type notice_type = { .kind = JD_OBJECT, .fields = notice_fields, .size = sizeof(struct notice) };

const char *notice_kind_name(enum notice_kind k)
{
	return k < _NOTICE_MAX ? kinds[k] : "unknown";
}

bool notice_wanted(const struct webhook_settings *w, const struct notice *n)
{
	const int *on = w->on.items;

	for (size_t i = 0; i < w->on.n; i++)
		if (on[i] == n->kind || (n->problem && on[i] == NOTICE_PROBLEM))
			return true;
	return false;
}

/* ---- the shapes ---- */

static void quote(struct buf *out, const char *text, size_t max)
{
	const char *t = text ? text : "";

	(void)jd_quote(out, t, utf8_cut(t, strlen(t), max));
}

/* ,"NAME":"text", or nothing. */
static void member(struct buf *out, const char *name, const char *text)
{
	if (str_empty(text))
		return;
	(void)buf_printf(out, ",\"%s\":", name);
	quote(out, text, SUBJECT_MAX * 2);
}

static void render_json(const struct notice *n, const struct notice_sender *from, struct buf *out)
{
	char time[TIMEFMT_MAX];

	(void)buf_printf(out, "{\"kind\":\"%s\",\"time\":\"%s\",\"number\":%lld,\"problem\":%s",
			 notice_kind_name((enum notice_kind)n->kind), timefmt_utc((usec_t)n->wall_usec, time),
			 (long long)n->number, n->problem ? "true" : "false");
	member(out, "subject", n->subject);
	member(out, "eventType", n->event_type);
	(void)buf_puts(out, ",\"message\":");
	quote(out, n->message, MESSAGE_MAX);
	(void)buf_puts(out, ",\"vm\":{\"name\":");
	quote(out, from->vm_name, SUBJECT_MAX);
	member(out, "id", from->vm_id);
	member(out, "resourceId", from->resource_id);
	member(out, "scaleSet", from->scale_set);
	(void)buf_puts(out, "}}");
}

static void render_cloud_event(const struct notice *n, const struct notice_sender *from, struct buf *out)
{
	char time[TIMEFMT_MAX];
	const char *source = !str_empty(from->resource_id) ? from->resource_id : from->vm_name;

	(void)buf_printf(out, "{\"specversion\":\"1.0\",\"type\":\"evenkeel.%s\",\"id\":\"%lld\",\"time\":\"%s\",\"source\":",
			 notice_kind_name((enum notice_kind)n->kind), (long long)n->number,
			 timefmt_utc((usec_t)n->wall_usec, time));
	/* A URI reference must not be empty. */
	quote(out, str_empty(source) ? "evenkeel" : source, SUBJECT_MAX * 2);
	member(out, "subject", n->subject);
	(void)buf_puts(out, ",\"datacontenttype\":\"application/json\",\"data\":");
	render_json(n, from, out);
	(void)buf_putc(out, '}');
}

/* "web-3: drained for Reboot …" */
static int headline(const struct notice *n, const struct notice_sender *from, struct buf *out)
{
	const char *message = n->message ? n->message : "";

	(void)buf_printf(out, "%s%s: ", n->problem ? "Problem on " : "", str_empty(from->vm_name) ? "VM" : from->vm_name);
	return buf_append(out, message, utf8_cut(message, strlen(message), MESSAGE_MAX));
}

/* Slack reads &, < and > as its own markup. */
static void slack_text(struct buf *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '&')
			(void)buf_puts(out, "&amp;");
		else if (*text == '<')
			(void)buf_puts(out, "&lt;");
		else if (*text == '>')
			(void)buf_puts(out, "&gt;");
		else
			(void)buf_putc(out, *text);
	}
}

static void render_slack(const char *line, struct buf *out)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_NOTICE * 2);

	slack_text(&text, line);
	(void)buf_puts(out, "{\"text\":");
	(void)jd_quote(out, buf_str(&text), text.len);
	(void)buf_putc(out, '}');
}

static void render_teams(const struct notice *n, const char *line, struct buf *out)
{
	(void)buf_puts(out, "{\"type\":\"message\",\"attachments\":[{\"contentType\":"
			    "\"application/vnd.microsoft.card.adaptive\",\"content\":{\"$schema\":"
			    "\"http://adaptivecards.io/schemas/adaptive-card.json\",\"type\":\"AdaptiveCard\","
			    "\"version\":\"1.4\",\"body\":[{\"type\":\"TextBlock\",\"wrap\":true,");
	(void)buf_printf(out, "\"color\":\"%s\",\"text\":", n->problem ? "attention" : "default");
	(void)jd_quote(out, line, strlen(line));
	(void)buf_puts(out, "}]}}]}");
}

int notice_render(const struct notice *n, int format, const struct notice_sender *from, struct buf *out,
		  const char **ret_content_type)
{
	_cleanup_buf_ struct buf line = BUF_INIT(LIMIT_NOTICE);

	*ret_content_type = "application/json";
	if (headline(n, from, &line) < 0)
		return buf_ok(&line);
	switch (format) {
	case WEBHOOK_CLOUD_EVENTS:
		*ret_content_type = "application/cloudevents+json; charset=utf-8";
		render_cloud_event(n, from, out);
		break;
	case WEBHOOK_SLACK:
		render_slack(buf_str(&line), out);
		break;
	case WEBHOOK_TEAMS:
		render_teams(n, buf_str(&line), out);
		break;
	default:
		render_json(n, from, out);
		break;
	}
	return buf_ok(out);
}

int notice_sign(const char *key, const char *timestamp, const char *body, size_t len, struct buf *out)
{
	_cleanup_buf_ struct buf signed_text = BUF_INIT(LIMIT_NOTICE * 2);
	unsigned char mac[SHA256_BYTES];
	int r;

	(void)buf_printf(&signed_text, "%s.", timestamp);
	r = buf_append(&signed_text, body, len);
	if (r >= 0)
		r = hmac_sha256(key, strlen(key), signed_text.data, signed_text.len, mac);
	if (r < 0)
		return r;
	(void)buf_puts(out, "sha256=");
	for (size_t i = 0; i < sizeof(mac); i++)
		(void)buf_printf(out, "%02x", mac[i]);
	return buf_ok(out);
}
