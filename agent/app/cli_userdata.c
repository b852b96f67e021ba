/*
 * evenkeel userdata: what is known of user data and what has been applied. Where no service runs the files tell it; only
 * orders need the service. The content itself is shown to root only, and only when asked for.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/app/api_client.h"
#include "agent/app/arguments.h"
#include "agent/app/cli_client.h"
#include "agent/app/verbs.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/gzip.h"
#include "agent/codec/json.h"
#include "agent/codec/timefmt.h"
#include "agent/core/exit_codes.h"
#include "agent/core/userdata_view.h"
#include "agent/io/paths.h"
#include "agent/io/record.h"

static void view_done(struct userdata_view *v)
{
	jd_free(&userdata_view_type, v);
}

/* ---- the files ---- */

static int read_record(const struct paths *p, const char *name, size_t max, uint32_t version,
		       const struct jd_type *type, void *target, struct error *err)
{
	_cleanup_free_ char *path = path_join(p->records, name);
	_cleanup_(record_closep) struct record *record = NULL;
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_RECORD);
	int r;

	if (!path)
		return error_oom(err);
	if (!fs_exists(path))
		return 0;
	r = record_open(path, NULL, max, version, &record, err);
	if (r >= 0)
		r = record_load(record, &text, NULL, err);
	if (r == -ENOENT)
		return 0;
	return r < 0 ? r : jd_decode_document(buf_str(&text), text.len, path, LIMIT_RECORD, type, target, err);
}

static int read_files(const struct paths *p, struct userdata_view *v, struct error *err)
{
	int r = read_record(p, "user-data.record", LIMIT_USER_DATA_RECORD, USERDATA_RECORD_VERSION,
			    &userdata_record_type, &v->watch, err);

	if (r >= 0)
		r = read_record(p, "user-data.memory", LIMIT_USER_DATA_MEMORY, USERDATA_MEMORY_VERSION,
				&userdata_memory_type, &v->memory, err);
	return r;
}

/* `text`: the document itself. */
static int look(const struct paths *p, struct buf *text, struct userdata_view *v)
{
	struct error e = ERROR_INIT;

	if (!api_permitted(p))
		return cli_not_permitted("userdata");
	if (api_daemon_running(p))
		return cli_look(p, "userdata", "/v1/userdata", &userdata_view_type, text, v);
	if (geteuid() != 0 && access(p->records, R_OK | X_OK) < 0) {
		fprintf(stderr, "evenkeel userdata: only root may look, and the service is not running\n");
		return EXIT_NOT_PERMITTED;
	}
	if (read_files(p, v, &e) < 0 || jd_encode(&userdata_view_type, v, false, text) < 0 ||
	    buf_puts(text, "\n") < 0) {
		fprintf(stderr, "evenkeel userdata: %s\n", e.msg[0] ? e.msg : "out of memory");
		return EXIT_FAILED;
	}
	return EXIT_OK;
}

/* ---- tables ---- */

#define HISTORY_COLUMNS 6
#define PART_COLUMNS	5

struct row {
	char revision[USERDATA_REVISION_CHARS + 1], seen[TIMEFMT_MAX], ended[TIMEFMT_MAX], size[24], result[160];
};

static const char *when(int64_t usec, char out[static TIMEFMT_MAX])
{
	return usec ? timefmt_utc((usec_t)usec, out) : NULL;
}

static void print_history(const struct userdata_memory *m)
{
	static const char *const head[HISTORY_COLUMNS] = { "REVISION", "STATE", "SEEN", "ENDED", "BYTES", "RESULT" };
	const struct userdata_revision *r = m->revisions.items;
	_cleanup_free_ struct row *rows = calloc(m->revisions.n + 1, sizeof(*rows));
	_cleanup_free_ const char **cells = calloc((m->revisions.n + 1) * HISTORY_COLUMNS, sizeof(*cells));

	if (!rows || !cells)
		return;
	memcpy(cells, head, sizeof(head));
	for (size_t i = 0; i < m->revisions.n; i++) {
		_cleanup_buf_ struct buf phrase = BUF_INIT(1024);
		const char **to = cells + (i + 1) * HISTORY_COLUMNS;

		if (r[i].runs.n || r[i].message)
			userdata_phrase(&r[i], &phrase);
		(void)snprintf(rows[i].revision, sizeof(rows[i].revision), "%s", r[i].sha256 ? r[i].sha256 : "");
		(void)snprintf(rows[i].size, sizeof(rows[i].size), "%lld", (long long)r[i].size);
		(void)snprintf(rows[i].result, sizeof(rows[i].result), "%s", buf_str(&phrase));
		to[0] = rows[i].revision;
		to[1] = userdata_state_name(r[i].state);
		to[2] = when(r[i].seen_usec, rows[i].seen);
		to[3] = when(r[i].ended_usec, rows[i].ended);
		to[4] = rows[i].size;
		to[5] = *rows[i].result ? rows[i].result : NULL;
	}
	cli_table(cells, m->revisions.n + 1, HISTORY_COLUMNS);
}

static void print_parts(const struct paths *p, const struct userdata_revision *r)
{
	static const char *const head[PART_COLUMNS] = { "PART", "NAME", "TYPE", "STATE", "RESULT" };
	const struct userdata_run *runs = r->runs.items;
	_cleanup_free_ const char **cells = calloc((r->runs.n + 1) * PART_COLUMNS, sizeof(*cells));
	_cleanup_free_ struct row *rows = calloc(r->runs.n + 1, sizeof(*rows));

	if (!cells || !rows || !r->runs.n)
		return;
	memcpy(cells, head, sizeof(head));
	for (size_t i = 0; i < r->runs.n; i++) {
		const char **to = cells + (i + 1) * PART_COLUMNS;

		(void)snprintf(rows[i].size, sizeof(rows[i].size), "%zu", i + 1);
		to[0] = rows[i].size;
		to[1] = runs[i].name;
		to[2] = runs[i].type;
		to[3] = userdata_run_state_name(runs[i].state);
		to[4] = runs[i].message;
	}
	printf("\nParts of revision %.*s:\n", USERDATA_REVISION_CHARS, r->sha256);
	cli_table(cells, r->runs.n + 1, PART_COLUMNS);
	for (size_t i = 0; i < r->runs.n; i++) {
		_cleanup_free_ char *directory = str_empty(runs[i].job) ? NULL : path_of_job(p, runs[i].job);

		if (directory && runs[i].state == USERDATA_RUN_FAILED)
			printf("Output of part %zu: %s/stdout, stderr\n", i + 1, directory);
	}
}

/* The first line of the sentence: its parts follow as a table. */
static void print_summary(const struct userdata_view *v)
{
	const struct userdata_record *w = &v->watch;
	char seen[TIMEFMT_MAX];

	if (v->message)
		printf("%.*s\n", (int)strcspn(v->message, "\n"), v->message);
	else if (!w->sha256)
		printf("No user data has been seen (the service is not running)\n");
	else
		printf("User data revision %.*s, %lld bytes, %s%s, seen since %s%s (the service is not running)\n",
		       USERDATA_REVISION_CHARS, w->sha256, (long long)w->size, w->form.gzip ? "gzip of " : "",
		       userdata_format_phrase(w->form.format), timefmt_utc((usec_t)w->seen_usec, seen),
		       w->removed_usec ? ", removed since" : "");
}

static int print_state(const struct paths *p, const struct userdata_view *v)
{
	const struct userdata_revision *list = v->memory.revisions.items;

	print_summary(v);
	if (!v->memory.revisions.n)
		return EXIT_OK;
	putchar('\n');
	print_history(&v->memory);
	for (size_t i = 0; i < v->memory.revisions.n; i++)
		if (list[i].runs.n) {
			print_parts(p, &list[i]);
			break;
		}
	return EXIT_OK;
}

/* ---- content ---- */

/* As people want to read it: gzip opened. -ENOENT. */
static int read_content(const struct paths *p, const char *name, struct buf *out, struct error *err)
{
	_cleanup_free_ char *path = path_join(p->records, name);
	_cleanup_buf_ struct buf raw = BUF_SECRET_INIT(LIMIT_USER_DATA_DECODED);
	int r = path ? fs_read_nofollow(path, LIMIT_USER_DATA_DECODED, &raw, err) : error_oom(err);

	if (r < 0)
		return r;
	if (gzip_detect(buf_str(&raw), raw.len) && gzip_inflate(raw.data, raw.len, out, NULL) >= 0)
		return 0;
	return buf_append(out, buf_str(&raw), raw.len) < 0 ? error_oom(err) : 0;
}

static int show(const struct paths *p, bool applied)
{
	_cleanup_buf_ struct buf content = BUF_SECRET_INIT(LIMIT_GUNZIP_DEFAULT);
	struct error e = ERROR_INIT;

	if (read_content(p, applied ? "user-data.applied" : "user-data", &content, &e) < 0) {
		fprintf(stderr, "evenkeel userdata show: %s\n", e.msg);
		return e.code == -EACCES ? EXIT_NOT_PERMITTED : EXIT_FAILED;
	}
	return fwrite(buf_str(&content), 1, content.len, stdout) == content.len && fflush(stdout) == 0 ? EXIT_OK
												       : EXIT_FAILED;
}

/* In memory only; "/proc/self/fd/N" in `path`. */
static int open_content(const struct paths *p, const char *name, char path[static 32], struct error *err)
{
	_cleanup_buf_ struct buf content = BUF_SECRET_INIT(LIMIT_GUNZIP_DEFAULT);
	int r = read_content(p, name, &content, err), fd;

	/* Nothing was ever applied: everything is new. */
	if (r < 0 && r != -ENOENT)
		return r;
	fd = memfd_create(name, 0);
	if (fd < 0 || fs_write_all(fd, buf_str(&content), content.len) < 0 || lseek(fd, 0, SEEK_SET) < 0) {
		if (fd >= 0)
			close(fd);
		return error_errno(err, -EIO, "cannot keep %s in memory", name);
	}
	(void)snprintf(path, 32, "/proc/self/fd/%d", fd);
	return fd;
}

/* 0: the same; 1: different; as diff(1). */
static int diff(const struct paths *p)
{
	char before[32], after[32];
	struct error e = ERROR_INIT;
	_cleanup_close_ int a = open_content(p, "user-data.applied", before, &e),
			    b = a < 0 ? -1 : open_content(p, "user-data", after, &e);
	int status;
	pid_t child;

	if (a < 0 || b < 0) {
		fprintf(stderr, "evenkeel userdata diff: %s\n", e.msg);
		return EXIT_FAILED;
	}
	(void)fflush(stdout);
	child = fork();
	if (child == 0) {
		(void)execlp("diff", "diff", "-u", "--label", "applied", "--label", "now", before, after, (char *)NULL);
		fprintf(stderr,
			"evenkeel userdata diff: this system has no diff(1); see: evenkeel userdata show [--applied]\n");
		_exit(EXIT_USAGE);
	}
	if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
		return EXIT_FAILED;
	return WEXITSTATUS(status);
}

/* ---- the verb ---- */

static int order(const char *word, const char *revision)
{
	return cli_order_alone(str_equal(word, "apply") ? "userdata apply" : "userdata ignore",
			       str_equal(word, "apply") ? "/v1/userdata/apply" : "/v1/userdata/ignore",
			       revision ? revision : "");
}

static int with_paths(int argc, char **argv, const struct paths *p)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_API_REPLY);
	_cleanup_(view_done) struct userdata_view v = { 0 };
	const char *word = argc > 1 ? argv[1] : "";
	int code;

	if (str_equal(word, "show"))
		return show(p, argc == 3);
	if (str_equal(word, "diff"))
		return diff(p);
	code = look(p, &text, &v);
	if (code != EXIT_OK)
		return code;
	if (str_equal(word, "--json"))
		return fputs(buf_str(&text), stdout) < 0 ? EXIT_FAILED : EXIT_OK;
	if (!*word)
		return print_state(p, &v);
	print_history(&v.memory);
	return EXIT_OK;
}

int verb_userdata(int argc, char **argv)
{
	static const char *const words[] = { "--json", "history", "show", "diff", "apply", "ignore", NULL };
	_cleanup_(paths_done) struct paths p = { 0 };
	const char *word = argc > 1 ? argv[1] : "--json";
	struct error e = ERROR_INIT;
	size_t i = 0;

	while (words[i] && !str_equal(word, words[i]))
		i++;
	if (!words[i] || argc > 3)
		return cli_usage("userdata");
	if (str_equal(word, "apply") || str_equal(word, "ignore"))
		return argc == 3 && argv[2][0] == '-' ? cli_usage("userdata") : order(word, argc == 3 ? argv[2] : NULL);
	if (argc == 3 && !(str_equal(word, "show") && str_equal(argv[2], "--applied")))
		return cli_usage("userdata");
	if (paths_init(&p, NULL, &e) < 0) {
		fprintf(stderr, "evenkeel: %s\n", e.msg);
		return EXIT_FAILED;
	}
	return with_paths(argc, argv, &p);
}
