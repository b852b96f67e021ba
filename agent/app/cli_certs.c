/*
 * `evenkeel certs`: the table of certificates and secrets, asking the vault now, checking what is on disk. What is shown is
 * the daemon's view (agent/core/key_view.h); where no daemon runs, what it has left on disk.
 */
#include "agent/app/arguments.h"
#include "agent/app/cli_certs.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/app/api_client.h"
#include "agent/app/cli_client.h"
#include "agent/app/verbs.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/base/time.h"
#include "agent/core/exit_codes.h"
#include "agent/io/paths.h"

#define LOOK_MSEC   200
#define WIDE	    190 /* columns of a terminal that takes the whole table */
#define DATE_LENGTH 10	/* of a time, its day */

static void view_done(struct key_view *v)
{
	jd_free(&key_view_type, v);
}

/* ---- without the daemon ---- */

static int read_record(const struct paths *p, const char *name, struct key_record *ret, struct error *err)
{
	_cleanup_free_ char *path = str_format("%s/key-refresh/%s.json", p->records, name);
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_RECORD);
	int r;

	if (!path)
		return error_oom(err);
	r = fs_read_nofollow(path, LIMIT_RECORD, &text, err);
	return r < 0 ? r : key_record_decode(buf_str(&text), text.len, ret, err);
}

static int add_record(const struct paths *p, struct view_key *v, usec_t now, struct error *err)
{
	struct key_record record = { .warned_days = -1 };
	int r = read_record(p, v->name, &record, err);

	if (r == 0 || r == -ENOENT)
		r = key_view_set_record(v, &record, record.version && str_equal(record.url, v->url), false,
					record.warned_days, now);
	key_record_done(&record);
	/* Nobody is there to try. */
	return r < 0 ? r : str_set(&v->next_try, NULL);
}

int certs_load_records(const struct paths *p, struct key_view *ret, struct error *err)
{
	_cleanup_free_ char *path = path_join(p->records, "key-refresh.wanted");
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_API_REPLY);
	_cleanup_(view_done) struct key_view v = { 0 };
	usec_t now = time_wall();
	int r = path ? fs_read_nofollow(path, LIMIT_API_REPLY, &text, err) : error_oom(err);

	if (r == -ENOENT)
		return 0; /* no section, or no settings yet */
	if (r >= 0)
		r = key_view_decode(buf_str(&text), text.len, &v, err);
	for (size_t i = 0; r >= 0 && i < v.items.n; i++)
		r = add_record(p, (struct view_key *)v.items.items + i, now, err);
	if (r < 0)
		return r;
	key_view_sort(&v);
	*ret = v;
	v = (struct key_view){ 0 };
	return 0;
}

/* ---- the view ---- */

static int look(const struct paths *p, const char *verb, struct key_view *ret)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_API_REPLY);
	struct error e = ERROR_INIT;
	int code = cli_get(p, verb, "/v1/certificates", &text);

	if (code == EXIT_OK && key_view_decode(buf_str(&text), text.len, ret, &e) < 0) {
		fprintf(stderr, "evenkeel %s: %s\n", verb, e.msg);
		return EXIT_FAILED;
	}
	return code;
}

static int load(struct paths *p, const char *verb, struct key_view *ret)
{
	struct error e = ERROR_INIT;
	int r = paths_init(p, NULL, &e);

	if (r >= 0 && !api_permitted(p))
		return cli_not_permitted(verb);
	if (r >= 0 && api_daemon_running(p))
		return look(p, verb, ret);
	if (r >= 0)
		r = certs_load_records(p, ret, &e);
	if (r < 0) {
		fprintf(stderr, "evenkeel %s: %s\n", verb, e.msg);
		return r == -EACCES ? EXIT_NOT_PERMITTED : EXIT_FAILED;
	}
	return EXIT_OK;
}

/* ---- the table ---- */

enum {
	COLUMN_NAME,
	COLUMN_STATE,
	COLUMN_NOT_AFTER,
	COLUMN_LEFT,
	COLUMN_NEXT,
	COLUMN_IDENTITY,
	COLUMN_VERSION,
	COLUMN_THUMBPRINT,
	COLUMN_WHERE,
	COLUMNS
};

/* What a narrow terminal has no room for is in --json. */
static bool is_shown(int column, bool wide)
{
	return wide || (column != COLUMN_IDENTITY && column != COLUMN_THUMBPRINT);
}

static char *cell_of(const struct view_key *v, int column, bool live)
{
	switch (column) {
	case COLUMN_NAME:
		return v->name ? strdup(v->name) : NULL;
	case COLUMN_STATE:
		return v->state ? strdup(v->state) : NULL;
	case COLUMN_NOT_AFTER:
		return v->not_after ? strndup(v->not_after, DATE_LENGTH) : NULL;
	case COLUMN_LEFT:
		return v->days_left >= 0 ? str_format("%lld d", (long long)v->days_left) : NULL;
	case COLUMN_NEXT:
		/* HH:MM:SS of the whole time, which is never a day away */
		return v->next_try && strlen(v->next_try) > 19 ? strndup(v->next_try + 11, 8)
		       : live				       ? strdup("now")
							       : NULL;
	case COLUMN_IDENTITY:
		return v->identity ? strdup(v->identity) : NULL;
	case COLUMN_VERSION:
		return v->version ? strdup(v->version) : NULL;
	case COLUMN_THUMBPRINT:
		return str_empty(v->thumbprint) ? NULL : strdup(v->thumbprint);
	default:
		return v->where ? strdup(v->where) : NULL;
	}
}

static int print_table(const struct key_view *v)
{
	static const char *const heads[COLUMNS] = { "NAME",	"STATE",   "NOT AFTER",	 "LEFT", "NEXT TRY",
						    "IDENTITY", "VERSION", "THUMBPRINT", "WHERE" };
	const struct view_key *all = v->items.items;
	unsigned terminal = cli_columns();
	bool wide = terminal == 0 || terminal >= WIDE;
	size_t n = 0, columns = 0;
	_cleanup_strv_ char **cells = calloc((v->items.n + 1) * COLUMNS + 1, sizeof(*cells));
	/* Freed through `cells`, which has no NULL in between. */
	if (!cells)
		return -ENOMEM;
	for (int c = 0; c < COLUMNS; c++)
		columns += is_shown(c, wide);
	for (size_t row = 0; row <= v->items.n; row++)
		for (int c = 0; c < COLUMNS; c++) {
			char *cell;

			if (!is_shown(c, wide))
				continue;
			cell = row == 0 ? strdup(heads[c]) : cell_of(&all[row - 1], c, v->live);
			cells[n] = cell ? cell : strdup("-");
			if (!cells[n++])
				return -ENOMEM;
		}
	cli_table((const char *const *)cells, v->items.n + 1, columns);
	return 0;
}

static void print_errors(const struct key_view *v)
{
	const struct view_key *all = v->items.items;

	for (size_t i = 0; i < v->items.n; i++) {
		if (!str_empty(all[i].error))
			printf("%s: %s\n", all[i].name, all[i].error);
		if (!str_empty(all[i].problem))
			printf("%s: %s\n", all[i].name, all[i].problem);
	}
}

static int show(bool json)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_API_REPLY);
	_cleanup_(paths_done) struct paths p = { 0 };
	_cleanup_(view_done) struct key_view v = { 0 };
	int code = load(&p, "certs", &v);

	if (code != EXIT_OK)
		return code;
	if (json) {
		if (jd_encode(&key_view_type, &v, true, &text) < 0)
			return EXIT_FAILED;
		printf("%s\n", buf_str(&text));
		return EXIT_OK;
	}
	if (!v.live)
		fprintf(stderr, "evenkeel: the service is not running; this is what it has left on disk\n");
	if (!v.items.n) {
		printf("the settings ask for no certificates and secrets\n");
		return EXIT_OK;
	}
	if (print_table(&v) < 0)
		return EXIT_FAILED;
	print_errors(&v);
	return EXIT_OK;
}

/* ---- asking the vault ---- */

static bool is_meant(const struct view_key *v, const char *name)
{
	return str_empty(name) || str_equal(v->name, name);
}

/* Whether every one that was asked for then has been answered. Settings may have taken some away meanwhile. */
static bool all_answered(const struct key_view *asked, const struct key_view *now, const char *name)
{
	const struct view_key *all = asked->items.items;

	for (size_t i = 0; i < asked->items.n; i++) {
		const struct view_key *v = is_meant(&all[i], name) ? key_view_find(now, all[i].name) : NULL;

		/* A daemon that was started anew counts from the beginning, and asks by itself then. */
		if (v && v->answered < all[i].asked && v->answered < v->asked)
			return false;
	}
	return true;
}

/* EXIT_FAILED: it is not as the vault has it. */
static int tell_outcome(const struct view_key *before, const struct view_key *v)
{
	if (!str_empty(v->error)) {
		fprintf(stderr, "%s: %s%s%s\n", v->name, v->error, v->next_try ? "; next try at " : "",
			v->next_try ? v->next_try : "");
		return EXIT_FAILED;
	}
	if (str_equal(v->state, "rejected") ||
	    (str_equal(v->state, "activating") && !str_equal(v->level, "success"))) {
		fprintf(stderr, "%s: %s\n", v->name, v->problem ? v->problem : v->state);
		return EXIT_FAILED;
	}
	if (str_empty(v->version) || str_equal(v->state, "pending") || str_equal(v->state, "missing")) {
		fprintf(stderr, "%s: not installed; evenkeel status tells more\n", v->name);
		return EXIT_FAILED;
	}
	if (before && str_equal(before->version, v->version) && str_equal(before->installed_at, v->installed_at))
		printf("%s: unchanged, version %s", v->name, v->version);
	else
		printf("%s: installed, version %s", v->name, v->version);
	printf("%s%s\n", v->not_after ? ", valid until " : "", v->not_after ? v->not_after : "");
	return EXIT_OK;
}

static int tell_outcomes(const struct key_view *before, const struct key_view *now, const char *name)
{
	const struct view_key *all = now->items.items;
	int code = EXIT_OK;

	for (size_t i = 0; i < now->items.n; i++)
		if (is_meant(&all[i], name) && tell_outcome(key_view_find(before, all[i].name), &all[i]) != EXIT_OK)
			code = EXIT_FAILED;
	return code;
}

/* No time limit of its own: each try of the daemon has one, and it tells when it has ended. */
static int refresh(const char *name)
{
	static const char verb[] = "certs refresh";
	_cleanup_(paths_done) struct paths p = { 0 };
	_cleanup_(view_done) struct key_view before = { 0 }, asked = { 0 };
	int code = cli_open(&p);

	if (code == EXIT_OK)
		code = look(&p, verb, &before);
	if (code == EXIT_OK)
		code = cli_order(&p, verb, "/v1/certificates/refresh", name);
	if (code == EXIT_OK)
		code = look(&p, verb, &asked);
	while (code == EXIT_OK) {
		_cleanup_(view_done) struct key_view now = { 0 };

		code = look(&p, verb, &now);
		if (code == EXIT_OK && all_answered(&asked, &now, name))
			return tell_outcomes(&before, &now, name);
		(void)poll(NULL, 0, LOOK_MSEC);
	}
	return code;
}

/* ---- the verb ---- */

static void print_complaint(const char *name, int code, const char *text, void *userdata)
{
	(void)userdata;
	printf("%s: %s%s\n", name, code == EXIT_OK ? "" : code == EXIT_FAILED ? "error: " : "warning: ", text);
}

static int check(void)
{
	_cleanup_(paths_done) struct paths p = { 0 };
	_cleanup_(view_done) struct key_view v = { 0 };
	int code = load(&p, "certs check", &v);

	if (code != EXIT_OK)
		return code;
	if (!v.items.n)
		printf("the settings ask for no certificates and secrets\n");
	return certs_check(&v, print_complaint, NULL);
}

int verb_certs(int argc, char **argv)
{
	if (argc == 1 || (argc == 2 && str_equal(argv[1], "--json")))
		return show(argc == 2);
	if (argc == 2 && str_equal(argv[1], "check"))
		return check();
	if (argc <= 3 && str_equal(argv[1], "refresh") && (argc == 2 || argv[2][0] != '-'))
		return refresh(argc == 3 ? argv[2] : "");
	return cli_usage("certs");
}
