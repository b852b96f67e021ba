/* What a support bundle takes of our files: logs, records, and a list of all that is there. */
#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/app/support_bundle.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/tar.h"
#include "agent/codec/timefmt.h"
#include "agent/io/record.h"

#define LOGS_MAX   16
#define LIST_DEPTH 4
#define LIST_FILES 2000

/* ---- logs ---- */

/* The end of a file that may grow meanwhile, from the first whole line. */
static int read_end(const char *path, struct buf *out)
{
	_cleanup_fclose_ FILE *f = fopen(path, "re");
	struct stat st;
	size_t n;

	if (!f || fstat(fileno(f), &st) < 0)
		return -errno;
	if (st.st_size > (off_t)BUNDLE_FILE_MAX && fseek(f, st.st_size - (off_t)BUNDLE_FILE_MAX, SEEK_SET) < 0)
		return -errno;
	if (buf_reserve(out, BUNDLE_FILE_MAX) < 0)
		return -ENOMEM;
	n = fread(out->data + out->len, 1, BUNDLE_FILE_MAX, f);
	out->len += n;
	buf_terminate(out);
	return 0;
}

int bundle_add_logs(struct bundle *b)
{
	const char *folder = str_empty(b->goal.log_folder) ? b->paths.log_default : b->goal.log_folder;
	_cleanup_free_ char *pattern = path_join(folder, "evenkeel.log*");
	glob_t found = { 0 };
	int r = pattern ? 0 : error_oom(&b->err);

	if (r >= 0 && glob(pattern, 0, NULL, &found) != 0)
		r = bundle_miss(b, "logs/evenkeel.log", "nothing has been logged yet");
	for (size_t i = 0; r >= 0 && i < found.gl_pathc && i < LOGS_MAX; i++) {
		_cleanup_buf_ struct buf text = BUF_INIT(BUNDLE_FILE_MAX + 1);
		_cleanup_free_ char *name = str_format("logs/%.60s", strrchr(found.gl_pathv[i], '/') + 1);
		int k = name ? read_end(found.gl_pathv[i], &text) : -ENOMEM;

		r = k < 0 ? bundle_miss(b, name ? name : "logs", strerror(-k))
			  : bundle_add(b, name, "the service's log", &text);
	}
	globfree(&found);
	return r;
}

/* ---- records and files ---- */

/* By name: what is written there later is not taken along unseen. */
int bundle_add_records(struct bundle *b)
{
	static const char *const records[] = { "deployment", "drain", "user-data.record" };
	static const char *const documents[] = { "owner.json", "upgrade.json" };
	int r = 0;

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(records); i++) {
		_cleanup_buf_ struct buf text = BUF_INIT(BUNDLE_FILE_MAX);
		_cleanup_free_ char *path = path_join(b->paths.records, records[i]),
				    *name = str_format("state/%s.json", records[i]);

		if (!path || !name)
			r = error_oom(&b->err);
		else if (record_peek(path, &text) >= 0)
			r = bundle_add(b, name, "a record of the service", &text);
	}
	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(documents); i++) {
		_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_RECORD);
		_cleanup_free_ char *path = path_join(b->paths.records, documents[i]),
				    *name = str_format("state/%s", documents[i]);

		if (!path || !name)
			r = error_oom(&b->err);
		else if (fs_read_nofollow(path, LIMIT_RECORD, &text, NULL) >= 0)
			r = bundle_add(b, name, "a record of the service", &text);
	}
	return r;
}

/* One file for each certificate and plain secret: url, version, thumbprint, times. */
int bundle_add_key_records(struct bundle *b)
{
	_cleanup_free_ char *directory = path_join(b->paths.records, "key-refresh");
	_cleanup_strv_ char **names = NULL;
	int r = 0;

	if (!directory || fs_list(directory, LIST_FILES, &names, NULL) < 0)
		return directory ? 0 : error_oom(&b->err);
	for (char **n = names; r >= 0 && *n; n++) {
		_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_RECORD);
		_cleanup_free_ char *path = path_join(directory, *n), *name = str_format("state/key-refresh/%s", *n);

		if (!path || !name)
			r = error_oom(&b->err);
		else if (str_ends(*n, ".json") && strlen(name) < TAR_NAME_MAX - strlen(BUNDLE_TOP) &&
			 fs_read_nofollow(path, LIMIT_RECORD, &text, NULL) >= 0)
			r = bundle_add(b, name, "a record of the service", &text);
	}
	return r;
}

static void list_tree(struct buf *out, const char *path, unsigned depth, size_t *left)
{
	_cleanup_strv_ char **names = NULL;
	char when[TIMEFMT_MAX];
	struct stat st;

	if (!*left || lstat(path, &st) < 0)
		return;
	--*left;
	(void)buf_printf(out, "%06o %5u %5u %10lld %s %s\n", st.st_mode, st.st_uid, st.st_gid, (long long)st.st_size,
			 timefmt_utc((usec_t)st.st_mtime * USEC_PER_SEC, when), path);
	if (!S_ISDIR(st.st_mode) || !depth || fs_list(path, LIST_FILES, &names, NULL) < 0)
		return;
	for (char **n = names; *n; n++) {
		_cleanup_free_ char *below = path_join(path, *n);

		if (below)
			list_tree(out, below, depth - 1, left);
	}
}

int bundle_add_file_list(struct bundle *b)
{
	const char *const trees[] = { b->paths.state, b->paths.run, b->paths.etc, b->paths.libexec };
	_cleanup_buf_ struct buf text = BUF_INIT(BUNDLE_LIST_MAX);

	for (size_t i = 0; i < ARRAY_SIZE(trees); i++) {
		size_t left = LIST_FILES;

		list_tree(&text, trees[i], LIST_DEPTH, &left);
	}
	return bundle_add(b, "files.txt", "our files: mode, owner, group, size, time, name", &text);
}
