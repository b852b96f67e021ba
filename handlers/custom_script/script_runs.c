/* Runs of scripts, read from their files. */
#include "handlers/custom_script/script_runs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/timefmt.h"
#include "agent/io/machine.h"
#include "agent/io/paths.h"

#define SLUG_MAX 40

char *script_slug(const char *name)
{
	char *s = strndup(name, SLUG_MAX);

	for (char *p = s; p && *p; p++) {
		if (*p >= 'A' && *p <= 'Z')
			*p = (char)(*p - 'A' + 'a');
		else if (!((*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9')))
			*p = '-';
	}
	return s;
}

char *script_hand_file(const struct paths *p, const char *id)
{
	return str_format("%s/%s.script", p->run_jobs, id);
}

static usec_t usec_of(struct timespec t)
{
	return (usec_t)t.tv_sec * USEC_PER_SEC + (usec_t)t.tv_nsec / 1000;
}

/* 0: absent. */
static usec_t made_at(const char *directory, const char *name)
{
	_cleanup_free_ char *path = path_join(directory, name);
	struct stat st;

	return path && lstat(path, &st) == 0 ? usec_of(st.st_mtim) : 0;
}

static int read_file(const char *directory, const char *name, size_t max, struct buf *ret)
{
	_cleanup_free_ char *path = path_join(directory, name);
	struct error e = ERROR_INIT;

	return path ? fs_read_nofollow(path, max, ret, &e) : -ENOMEM;
}

/* A script has content of its own; what has only an argv was started for one. */
static int read_job(const char *directory, struct script_kept *k, bool *ret_wipe, bool *ret_wipe_script)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_JOB_FILE);
	struct error e = ERROR_INIT;
	struct job job;
	int r = read_file(directory, "job.json", LIMIT_JOB_FILE, &text);

	if (r >= 0)
		r = job_decode(buf_str(&text), text.len, &job, &e);
	if (r < 0)
		return r;
	k->helper = job.kind == JOB_FORGET || (job.kind == JOB_COMMAND && !job.shell_is_secret);
	k->attempt = job.attempt;
	*ret_wipe = job.wipe;
	/* Root's own has been unlinked by the daemon, which cannot get at another user's. */
	*ret_wipe_script = job.wipe_script && job.user && !str_equal(job.user, "root");
	r = str_set(&k->name, job.title ? job.title : "");
	if (r >= 0)
		r = str_set(&k->sequence, job.sequence);
	jd_free(&job_type, &job);
	return r;
}

static int read_result(const char *directory, struct script_kept *k)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_JOB_FILE);
	struct error e = ERROR_INIT;
	int r = read_file(directory, "result.json", LIMIT_JOB_FILE, &text);

	if (r < 0 || job_result_decode(buf_str(&text), text.len, &k->result, &e) < 0)
		return r == -ENOMEM ? r : 0;
	k->ended = true;
	k->ended_wall = made_at(directory, "result.json");
	k->bytes = (uint64_t)k->result.kept_bytes;
	return 0;
}

static int read_begin(const char *directory, const char *boot_id, struct script_kept *k)
{
	_cleanup_buf_ struct buf boot = BUF_INIT(MACHINE_ID_MAX);
	int r = read_file(directory, "started", MACHINE_ID_MAX, &boot);

	if (r == -ENOENT) {
		k->ended_wall = k->ended ? k->ended_wall : made_at(directory, "job.json");
		return 0;
	}
	k->begun = true;
	k->begun_wall = made_at(directory, "started");
	/* On a full disk the boot is not in it. */
	k->lost = !k->ended && boot.len > 0 && !str_equal(buf_str(&boot), boot_id);
	return r == -ENOMEM ? r : 0;
}

static void kept_done(struct script_kept *k)
{
	jd_free(&job_result_type, &k->result);
	free(k->id);
	free(k->name);
	free(k->sequence);
}

static int read_run(const char *directory, const char *id, const char *boot_id, struct script_kept *k)
{
	_cleanup_free_ char *work = path_join(directory, "work");
	int r = work ? str_set(&k->id, id) : -ENOMEM;
	bool wipe = false, wipe_script = false;

	k->by_hand = str_starts(id, SCRIPT_HAND_PREFIX);
	if (r >= 0)
		r = read_job(directory, k, &wipe, &wipe_script);
	if (r >= 0)
		r = read_result(directory, k);
	if (r >= 0)
		r = read_begin(directory, boot_id, k);
	if (r >= 0 && (k->lost || (k->ended && k->result.end == JOB_INTERRUPTED && !str_equal(k->result.boot_id, boot_id))))
		k->unwiped = (wipe || wipe_script) && fs_exists(work);
	if (r >= 0 && k->bytes == 0 && (k->ended || k->lost))
		k->bytes = fs_tree_bytes(directory, LIMIT_TREE_FILES);
	return r;
}

static bool is_ours(const char *id)
{
	return job_id_valid(id) && (str_starts(id, SCRIPT_JOB_PREFIX) || str_starts(id, SCRIPT_HAND_PREFIX) ||
				    str_starts(id, SCRIPT_FORGET_PREFIX));
}

static int read_all(const char *jobs, const char *boot_id, struct script_runs *all, struct error *err)
{
	_cleanup_strv_ char **names = NULL;
	struct error e = ERROR_INIT;
	int r = fs_list(jobs, LIMIT_JOB_DIRECTORIES, &names, &e);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return error_set(err, e.cls, r, "%s", e.msg);
	for (char **n = names; *n; n++) {
		_cleanup_free_ char *directory = path_join(jobs, *n);
		struct script_kept k = { 0 }, *grown;

		if (!directory)
			return error_oom(err);
		if (!is_ours(*n) || !fs_is_dir(directory))
			continue;
		r = read_run(directory, *n, boot_id, &k);
		grown = r < 0 ? NULL : reallocarray(all->items, all->n + 1, sizeof(*grown));
		if (!grown) {
			kept_done(&k);
			if (r >= 0 || r == -ENOMEM)
				return error_oom(err);
			continue;
		}
		all->items = grown;
		grown[all->n++] = k;
	}
	return 0;
}

int script_runs_read(const struct paths *p, const char *boot_id, struct script_runs *ret, struct error *err)
{
	const struct script_keep_limits all_of_them = { .runs = SIZE_MAX, .age = USEC_INFINITY, .bytes = UINT64_MAX };
	struct script_runs all = { 0 };
	int r = read_all(p->jobs, boot_id, &all, err);

	if (r >= 0)
		r = read_all(p->run_jobs, boot_id, &all, err);
	if (r < 0) {
		script_runs_done(&all);
		return r;
	}
	script_keep_plan(all.items, all.n, &all_of_them, 0);
	*ret = all;
	return 0;
}

void script_runs_done(struct script_runs *r)
{
	for (size_t i = 0; i < r->n; i++)
		kept_done(&r->items[i]);
	free(r->items);
	*r = (struct script_runs){ 0 };
}
