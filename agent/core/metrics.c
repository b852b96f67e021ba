/* The families, their series, and both ways to write them down. */
#include "agent/core/metrics.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"

enum metric_kind { KIND_GAUGE, KIND_COUNTER, KIND_SUMMARY };

#define LABELS 2

struct family {
	const char *name; /* a counter's without _total */
	enum metric_kind kind;
	const char *unit; /* the end of the name, or NULL */
	const char *labels[LABELS];
	const char *help;
	bool measured; /* a counter that the kernel keeps: put in like a gauge */
};

/* clang-format off */
static const struct family families[_METRIC_MAX] = {
	[METRIC_BUILD] = { "evenkeel_build_info", KIND_GAUGE, NULL, { "version" }, "The version that runs, always 1." },
	[METRIC_CPU_SECONDS] = { "process_cpu_seconds", KIND_COUNTER, "seconds", { NULL }, "User and system CPU time of the daemon.", true },
	[METRIC_RESIDENT_BYTES] = { "process_resident_memory_bytes", KIND_GAUGE, "bytes", { NULL }, "Resident memory of the daemon." },
	[METRIC_START_TIME] = { "process_start_time_seconds", KIND_GAUGE, "seconds", { NULL }, "When the daemon was started, in seconds since 1970." },
	[METRIC_SERVING] = { "evenkeel_serving", KIND_GAUGE, NULL, { NULL }, "1 while nothing is drained." },
	[METRIC_READY] = { "evenkeel_ready", KIND_GAUGE, NULL, { NULL }, "1 while /ready answers 200." },
	[METRIC_APPLICATION_HEALTHY] = { "evenkeel_application_healthy", KIND_GAUGE, NULL, { NULL }, "1 while health.application answers well, or is not asked for." },
	[METRIC_PAUSED] = { "evenkeel_paused", KIND_GAUGE, NULL, { NULL }, "1 while evenkeel pause keeps drains, scripts and renewals from beginning." },
	[METRIC_COMPONENT_PROBLEM] = { "evenkeel_component_problem", KIND_GAUGE, NULL, { "component" }, "1 while the component's substatus is warning or error." },
	[METRIC_POLLS] = { "evenkeel_scheduled_events_polls", KIND_COUNTER, NULL, { "result" }, "Polls of Scheduled Events by HTTP status, or by what kept an answer away." },
	[METRIC_POLL_SECONDS] = { "evenkeel_scheduled_events_poll_duration_seconds", KIND_SUMMARY, "seconds", { NULL }, "How long the answers to polls took." },
	[METRIC_EVENTS_SEEN] = { "evenkeel_scheduled_events_seen", KIND_COUNTER, NULL, { "type", "source" }, "Events for this VM, each when it was first seen." },
	[METRIC_EVENTS] = { "evenkeel_scheduled_events", KIND_GAUGE, NULL, { "type", "status" }, "Events for this VM that the platform lists now." },
	[METRIC_DRAIN_PHASE] = { "evenkeel_drain_phase", KIND_GAUGE, NULL, { "phase" }, "1 for the phase that this VM is in." },
	[METRIC_DRAINS] = { "evenkeel_drains", KIND_COUNTER, NULL, { "result" }, "Finished drains." },
	[METRIC_PHASE_SECONDS] = { "evenkeel_drain_phase_duration_seconds", KIND_SUMMARY, "seconds", { "phase" }, "How long phases took, counted when they ended." },
	[METRIC_ACKNOWLEDGEMENTS] = { "evenkeel_acknowledgements", KIND_COUNTER, NULL, { "result" }, "Acknowledgements sent to the platform." },
	[METRIC_ACKNOWLEDGE_SECONDS] = { "evenkeel_acknowledgement_latency_seconds", KIND_SUMMARY, "seconds", { NULL }, "From the first try to the platform's answer." },
	[METRIC_SCRIPT_RUNS] = { "evenkeel_script_runs", KIND_COUNTER, NULL, { "script", "result" }, "Ended runs of custom scripts." },
	[METRIC_SCRIPT_SECONDS] = { "evenkeel_script_duration_seconds", KIND_SUMMARY, "seconds", { "script" }, "How long runs of custom scripts took." },
	[METRIC_CERTIFICATE_NOT_AFTER] = { "evenkeel_certificate_not_after_timestamp_seconds", KIND_GAUGE, "seconds", { "certificate" }, "When the installed certificate expires, in seconds since 1970." },
	[METRIC_CERTIFICATE_CHECKED] = { "evenkeel_certificate_last_check_timestamp_seconds", KIND_GAUGE, "seconds", { "certificate" }, "When the vault last answered well, in seconds since 1970." },
	[METRIC_CERTIFICATE_PROBLEM] = { "evenkeel_certificate_problem", KIND_GAUGE, NULL, { "certificate" }, "1 while the last try to refresh it failed." },
	[METRIC_CERTIFICATE_INSTALLS] = { "evenkeel_certificate_installs", KIND_COUNTER, NULL, { "certificate", "result" }, "Versions that were installed, or could not be." },
	[METRIC_USER_DATA_REVISION] = { "evenkeel_user_data_revision", KIND_GAUGE, NULL, { "revision", "state" }, "The revisions of user data that are known, always 1." },
	[METRIC_USER_DATA_CHECKED] = { "evenkeel_user_data_last_check_timestamp_seconds", KIND_GAUGE, "seconds", { NULL }, "When user data was last read, in seconds since 1970." },
	[METRIC_NOTICES] = { "evenkeel_notifications", KIND_COUNTER, NULL, { "webhook", "result" }, "Notifications by how they ended." },
	[METRIC_DROPPED] = { "evenkeel_metrics_dropped", KIND_COUNTER, NULL, { NULL }, "Values left out because there were too many series." },
};
/* clang-format on */

struct series {
	struct series *next;
	char *labels[LABELS];
	double value; /* a summary's sum */
	double count; /* of a summary */
};

struct metrics {
	struct series *first[_METRIC_MAX], **end[_METRIC_MAX];
	size_t n;
};

int metrics_new(struct metrics **ret)
{
	struct metrics *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	for (size_t i = 0; i < _METRIC_MAX; i++)
		m->end[i] = &m->first[i];
	*ret = m;
	return 0;
}

static void forget(struct metrics *m, enum metric what)
{
	for (struct series *s = m->first[what], *next; s; s = next) {
		next = s->next;
		for (size_t i = 0; i < LABELS; i++)
			free(s->labels[i]);
		free(s);
		m->n--;
	}
	m->first[what] = NULL;
	m->end[what] = &m->first[what];
}

void metrics_free(struct metrics *m)
{
	if (!m)
		return;
	for (size_t i = 0; i < _METRIC_MAX; i++)
		forget(m, (enum metric)i);
	free(m);
}

static bool is_put(const struct family *f)
{
	return f->kind == KIND_GAUGE || f->measured;
}

void metrics_begin(struct metrics *m)
{
	for (size_t i = 0; i < _METRIC_MAX; i++)
		if (is_put(&families[i]))
			forget(m, (enum metric)i);
}

/* NULL: no room, or no memory. */
static struct series *add(struct metrics *m, enum metric what, const char *const labels[static LABELS])
{
	struct series *s = m->n < LIMIT_METRIC_SERIES ? calloc(1, sizeof(*s)) : NULL;
	bool whole = s;

	for (size_t i = 0; whole && i < LABELS; i++) {
		if (!families[what].labels[i])
			continue;
		s->labels[i] = strdup(labels[i] ? labels[i] : "");
		whole = s->labels[i];
	}
	if (!whole) {
		for (size_t i = 0; s && i < LABELS; i++)
			free(s->labels[i]);
		free(s);
		return NULL;
	}
	*m->end[what] = s;
	m->end[what] = &s->next;
	m->n++;
	return s;
}

static bool has_labels(const struct series *s, const char *const labels[static LABELS])
{
	for (size_t i = 0; i < LABELS; i++)
		if (s->labels[i] && !str_equal(s->labels[i], labels[i] ? labels[i] : ""))
			return false;
	return true;
}

static struct series *find(struct metrics *m, enum metric what, const char *const labels[static LABELS])
{
	for (struct series *s = m->first[what]; s; s = s->next)
		if (has_labels(s, labels))
			return s;
	return add(m, what, labels);
}

/* Series are dropped only when there are far too many; the one that says so takes none of their room. */
static void dropped(struct metrics *m)
{
	static const char *const none[LABELS] = { NULL };
	size_t n = m->n;
	struct series *s;

	m->n = 0;
	s = find(m, METRIC_DROPPED, none);
	m->n += n;
	if (s)
		s->value++;
}

static void bump(struct metrics *m, enum metric what, double value, const char *first, const char *second)
{
	const char *const labels[LABELS] = { first, second };
	struct series *s = find(m, what, labels);

	if (!s) {
		dropped(m);
		return;
	}
	s->value += value;
	s->count++;
}

void metrics_count(struct metrics *m, enum metric what, const char *first, const char *second)
{
	bump(m, what, 1, first, second);
}

void metrics_observe(struct metrics *m, enum metric what, double seconds, const char *first)
{
	bump(m, what, seconds, first, NULL);
}

void metrics_put(struct metrics *m, enum metric what, double value, const char *first, const char *second)
{
	const char *const labels[LABELS] = { first, second };
	struct series *s = add(m, what, labels);

	if (s)
		s->value = value;
	else
		dropped(m);
}

/* ---- writing ---- */

const char *metrics_content_type(enum metrics_format format)
{
	return format == METRICS_OPEN ? "application/openmetrics-text; version=1.0.0; charset=utf-8" :
					"text/plain; version=0.0.4; charset=utf-8";
}

/* Both formats escape alike: backslash, line feed, and in label values the quote. */
static void escape(struct buf *out, const char *text, bool quotes)
{
	for (; *text; text++) {
		if (*text == '\n')
			(void)buf_puts(out, "\\n");
		else if (*text == '\\' || (quotes && *text == '"'))
			(void)buf_printf(out, "\\%c", *text);
		else
			(void)buf_putc(out, *text);
	}
}

static void number(struct buf *out, double value)
{
	bool whole = value > -1e15 && value < 1e15 && (double)(int64_t)value == value;

	if (whole)
		(void)buf_printf(out, " %.0f\n", value);
	else
		(void)buf_printf(out, " %.6f\n", value);
}

static void sample(struct buf *out, const struct family *f, const struct series *s, const char *suffix, double value)
{
	bool any = false;

	(void)buf_printf(out, "%s%s", f->name, suffix);
	for (size_t i = 0; i < LABELS; i++) {
		if (!s->labels[i])
			continue;
		(void)buf_printf(out, "%s%s=\"", any ? "," : "{", f->labels[i]);
		escape(out, s->labels[i], true);
		(void)buf_putc(out, '"');
		any = true;
	}
	(void)buf_puts(out, any ? "}" : "");
	number(out, value);
}

static void head(struct buf *out, const struct family *f, enum metrics_format format)
{
	static const char *const kinds[] = { "gauge", "counter", "summary" };
	/* The older format names the samples, the newer one the family. */
	const char *suffix = format == METRICS_TEXT && f->kind == KIND_COUNTER ? "_total" : "";

	(void)buf_printf(out, "# HELP %s%s ", f->name, suffix);
	escape(out, f->help, format == METRICS_OPEN);
	(void)buf_printf(out, "\n# TYPE %s%s %s\n", f->name, suffix, kinds[f->kind]);
	if (format == METRICS_OPEN && f->unit)
		(void)buf_printf(out, "# UNIT %s %s\n", f->name, f->unit);
}

int metrics_render(const struct metrics *m, enum metrics_format format, struct buf *out)
{
	for (size_t i = 0; i < _METRIC_MAX; i++) {
		const struct family *f = &families[i];

		if (m->first[i])
			head(out, f, format);
		for (const struct series *s = m->first[i]; s; s = s->next) {
			if (f->kind == KIND_SUMMARY) {
				sample(out, f, s, "_sum", s->value);
				sample(out, f, s, "_count", s->count);
			} else {
				sample(out, f, s, f->kind == KIND_COUNTER ? "_total" : "", s->value);
			}
		}
	}
	if (format == METRICS_OPEN)
		(void)buf_puts(out, "# EOF\n");
	return buf_ok(out);
}
