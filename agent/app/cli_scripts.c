/*
 * `evenkeel scripts`: every script and its kept runs. The runs are read from their files and what is waited for comes from the
 * daemon, so a service that is not running hides nothing that is over.
 */
#include "agent/app/arguments.h"
#include "agent/app/cli_scripts.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/app/api_client.h"
#include "agent/app/cli_client.h"
#include "agent/app/verbs.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/timefmt.h"
#include "agent/core/exit_codes.h"
#include "agent/core/script_view.h"
#include "agent/io/machine.h"
#include "agent/io/paths.h"
#include "handlers/custom_script/script_runs.h"

#define COLUMNS	     9
#define LIMIT_SHOWN (1024UL * 1024 * 16) /* of JSON */

int scripts_open(const char *verb, struct paths *p)
{
	struct error e = ERROR_INIT;

	if (paths_init(p, NULL, &e) < 0) {
		fprintf(stderr, "evenkeel %s: %s\n", verb, e.msg);
		return EXIT_FAILED;
	}
	if (access(p->records, R_OK | X_OK) < 0 && errno == EACCES)
		return cli_not_permitted(verb);
	return EXIT_OK;
}

static void view_done(struct script_view *v)
{
	jd_free(&script_view_type, v);
}

static void memory_done(struct script_memory *m)
{
	jd_free(&script_memory_type, m);
}

/* ---- gathering ---- */

static int tell_memory(const struct script_memory *m, struct script_view *view)
{
	const struct script_run *runs = m->runs.items;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < m->runs.n; i++) {
		struct view_script *s = script_view_get(view, runs[i].name, "settings");

		r = s ? script_view_tell(s, &runs[i], NULL) : -ENOMEM;
	}
	return r;
}

/* Of a service that does not run, the record says what it knew. */
static int gather_record(const struct paths *p, struct script_view *view, struct error *err)
{
	_cleanup_(memory_done) struct script_memory memory = { 0 };
	int r = script_record_peek(p, &memory, err);

	return r < 0 ? r : tell_memory(&memory, view) < 0 ? error_oom(err) : 0;
}

static int gather_service(const struct paths *p, struct script_view *view, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_API_REPLY);

	return api_look(p, "/v1/scripts", CLI_ANSWER_USEC, &script_view_type, &text, view, err);
}

static int gather_runs(const struct paths *p, struct script_view *view, struct error *err)
{
	struct script_runs runs = { 0 };
	char boot[MACHINE_ID_MAX];
	int r = machine_boot_id(p, boot, err);

	if (r >= 0)
		r = script_runs_read(p, boot, &runs, err);
	if (r >= 0 && script_view_add_runs(view, runs.items, runs.n, time_wall()) < 0)
		r = error_oom(err);
	script_runs_done(&runs);
	return r;
}

int scripts_gather(const struct paths *p, struct script_view *view, struct error *err)
{
	int r = api_daemon_running(p) ? gather_service(p, view, err) : gather_record(p, view, err);

	return r < 0 ? r : gather_runs(p, view, err);
}

/* ---- the table ---- */

struct table {
	const char **cells;
	size_t n, room;
	char **made; /* texts that the cells borrow */
	size_t n_made;
};

static void table_done(struct table *t)
{
	for (size_t i = 0; i < t->n_made; i++)
		free(t->made[i]);
	free(t->made);
	free(t->cells);
}

static int table_row(struct table *t, const char *const row[static COLUMNS])
{
	if (t->n + COLUMNS > t->room) {
		size_t room = t->room ? 2 * t->room : (size_t)16 * COLUMNS;
		const char **cells = reallocarray(t->cells, room, sizeof(*cells));
		char **made = cells ? reallocarray(t->made, room, sizeof(*made)) : NULL;

		if (cells)
			t->cells = cells;
		if (!made)
			return -ENOMEM;
		t->made = made;
		t->room = room;
	}
	for (size_t i = 0; i < COLUMNS; i++)
		t->cells[t->n++] = row[i];
	return 0;
}

/* Takes `text` over. There are fewer of them than cells. */
static const char *table_keep(struct table *t, char *text)
{
	if (text && t->n_made < t->room)
		return t->made[t->n_made++] = text;
	free(text);
	return NULL;
}

/* "2026-11-20T10:02:11.123456Z" as people write it. */
static char *clock_text(const char *time)
{
	char *text = time ? strndup(time, strlen("2026-11-20T10:02:11")) : NULL;
	char *t = text ? strchr(text, 'T') : NULL;

	if (t)
		*t = ' ';
	return text;
}

static char *span_text(int64_t msec)
{
	char span[TIMEFMT_MAX];

	return msec < 0 ? NULL : strdup(timefmt_span((usec_t)msec * USEC_PER_MSEC, span));
}

static char *count_text(int64_t n)
{
	return n > 0 ? str_format("%" PRId64, n) : NULL;
}

static const char *state_text(const char *state)
{
	return str_equal(state, "notRun")     ? "not run"
	       : str_equal(state, "timedOut") ? "timed out"
	       : str_equal(state, "notStarted") ? "not started"
					        : state;
}

static int add_run(struct table *t, const struct view_script *s, const struct view_run *v)
{
	size_t at = t->n;
	const char *row[COLUMNS] = { s->name, v->sequence ? v->sequence : str_equal(s->origin, "byHand") ? "by hand" : NULL,
				     NULL, state_text(v->state), v->result, NULL, NULL, v->job, v->message };
	int r = table_row(t, row);

	if (r < 0)
		return r;
	t->cells[at + 2] = table_keep(t, count_text(v->attempt));
	t->cells[at + 5] = table_keep(t, clock_text(v->started_at));
	t->cells[at + 6] = table_keep(t, span_text(v->duration_msec));
	return 0;
}

static bool is_told_by_runs(const struct view_script *s)
{
	return s->runs.n > 0 && !str_equal(s->state, "waiting") && !str_equal(s->state, "notRun");
}

static int add_script(struct table *t, const struct view_script *s)
{
	const struct view_run *runs = s->runs.items;
	const char *row[COLUMNS] = { s->name, s->sequence, NULL, state_text(s->state), NULL, NULL, NULL, NULL, s->detail };
	size_t at = t->n;
	int r = 0;

	if (!is_told_by_runs(s)) {
		r = table_row(t, row);
		if (r >= 0)
			t->cells[at + 2] = table_keep(t, count_text(s->attempts));
	}
	for (size_t i = 0; r >= 0 && i < s->runs.n; i++)
		r = add_run(t, s, &runs[i]);
	return r;
}

static int print_table(const struct script_view *view)
{
	static const char *const head[COLUMNS] = { "NAME",    "SEQUENCE", "TRY", "STATE", "RESULT",
						   "STARTED", "DURATION", "JOB", "DETAIL" };
	_cleanup_(table_done) struct table t = { 0 };
	const struct view_script *s = view->scripts.items;
	int r;

	if (view->scripts.n == 0) {
		printf("there are no scripts, and none has run\n");
		return EXIT_OK;
	}
	r = table_row(&t, head);
	for (size_t i = 0; r >= 0 && i < view->scripts.n; i++)
		r = add_script(&t, &s[i]);
	if (r < 0) {
		fprintf(stderr, "evenkeel scripts: out of memory\n");
		return EXIT_FAILED;
	}
	cli_table(t.cells, t.n / COLUMNS, COLUMNS);
	return EXIT_OK;
}

static int print_json(const struct script_view *view)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_SHOWN);

	if (!view->scripts.n || jd_encode(&script_view_type, view, false, &text) < 0) {
		if (view->scripts.n) {
			fprintf(stderr, "evenkeel scripts: out of memory\n");
			return EXIT_FAILED;
		}
		printf("{\"running\":%s,\"scripts\":[]}\n", view->running ? "true" : "false");
		return EXIT_OK;
	}
	printf("%s\n", buf_str(&text));
	return EXIT_OK;
}

/* ---- the verb ---- */

static int list(bool json)
{
	_cleanup_(view_done) struct script_view view = { 0 };
	_cleanup_(paths_done) struct paths p = { 0 };
	struct error e = ERROR_INIT;
	int code = scripts_open("scripts", &p), r;

	if (code != EXIT_OK)
		return code;
	if (!api_daemon_running(&p))
		fprintf(stderr, "evenkeel scripts: the service is not running; this is what its files tell\n");
	r = scripts_gather(&p, &view, &e);
	if (r < 0) {
		fprintf(stderr, "evenkeel scripts: %s\n", e.msg);
		return r == -EACCES ? EXIT_NOT_PERMITTED : EXIT_FAILED;
	}
	return json ? print_json(&view) : print_table(&view);
}

int verb_scripts(int argc, char **argv)
{
	if (argc == 1)
		return list(false);
	if (str_equal(argv[1], "logs"))
		return scripts_logs(argc - 1, argv + 1);
	if (str_equal(argv[1], "run"))
		return scripts_run(argc - 1, argv + 1);
	if (argc == 2 && str_equal(argv[1], "--json"))
		return list(true);
	return cli_usage("scripts");
}
