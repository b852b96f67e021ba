/*
 * The parts of the runner, for its own files only. One process does one job (agent/core/job.h): it is root, holds
 * secrets for a moment, and everything the job starts is its descendant (it is their subreaper), so that it can end
 * all of it wherever it runs.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/base/buf.h"
#include "agent/base/error.h"
#include "agent/base/time.h"
#include "agent/core/job.h"

struct loop;
struct loop_io;
struct paths;

/* ---- runner_output.c: one captured stream, from a pipe into a capped file ---- */

#define CAPTURE_RING 65536 /* the last bytes, kept in memory */

struct capture {
	int read_fd, write_fd, file_fd; /* -1: closed */
	struct loop_io *io;
	uint64_t produced;
	uint64_t file_size, max;
	uint64_t tail_from, tail_at; /* what has come from this byte on stands there in the file; 0, 0: nothing was left out */
	bool file_failed; /* the file takes no more (a full disk): it stays as it is */
	int file_error;
	size_t ring_used, ring_at;
	char ring[CAPTURE_RING];
};

_nodiscard_ int capture_open(struct capture *c, struct loop *l, const char *path, uint64_t max, struct error *err);
/* Takes what is in the pipe now; -EAGAIN: the pipe is empty but others hold it open; 0: everything has come. */
int capture_drain(struct capture *c);
/* Heap text of the last `max` bytes, valid UTF-8. NULL on out of memory. */
char *capture_tail(const struct capture *c, size_t max);
/* Bytes of the stream from *offset on, as far as they are kept; where some were left out, *offset goes on to those that
 * are. Their number; 0: none yet; -errno of the file. */
_nodiscard_ ssize_t capture_read(const struct capture *c, uint64_t *offset, void *to, size_t max);
void capture_close(struct capture *c);
/* Goes on for what was left running until both are at their end; blocks, for a process of its own. */
void capture_pump(struct capture *out, struct capture *err);

/* ---- runner_user.c: as whom, and with which environment ---- */

struct runner_user {
	uid_t uid;
	gid_t gid;
	char *name, *home, *shell;
	bool switched; /* it is not who we are */
};

/* "name", "name:group" or NULL (ourselves). */
_nodiscard_ int runner_user_find(const char *text, struct runner_user *ret, struct error *err);
void runner_user_done(struct runner_user *u);

/* The whole environment: a sane base, then the job's own. Release with runner_environment_free(): it may hold secrets. */
_nodiscard_ int runner_environment(const struct job *job, const struct job_secrets *secrets, const struct runner_user *u,
				   char ***ret, struct error *err);
void runner_environment_free(char **env);

/* ---- runner_process.c ---- */

struct runner_spawn {
	char *const *argv; /* without "/" looked up in PATH of the environment */
	char **env;
	const char *directory;
	const struct runner_user *user;
	const char *input; /* NULL: /dev/null */
	int nice;
	int out_fd, err_fd;
};
/* -errno when the program could not be executed; nothing runs then. */
_nodiscard_ int runner_spawn(const struct runner_spawn *s, pid_t *ret, struct error *err);

/* ---- runner_guard.c ---- */

#define RUNNER_ORPHANED SIGHUP	/* what the runner gets when its guard has died */
#define RUNNER_TOLD	SIGUSR1 /* … and when the guard was told to stop, whoever was told so beside it */

/* Forks, and returns in the child, which is to be the runner. The parent guards it: it hands on what it is told to do,
 * ends as the runner ends, and when the runner was killed it kills all that is left of it and calls `clean_up`. A runner
 * whose guard was killed gets RUNNER_ORPHANED and has to end everything itself. So whichever of them dies, nothing runs on
 * unwatched and nothing secret stays. */
_nodiscard_ int runner_guard(void (*clean_up)(void *userdata), void *userdata, struct error *err);

/* ---- runner_text.c: scripts as people save them, into what a Unix interpreter takes ---- */

enum text_encoding { TEXT_UNKNOWN, TEXT_BYTES, TEXT_LF, TEXT_UTF16LE, TEXT_UTF16BE };

/* UTF-16 becomes UTF-8, a byte-order mark goes, CRLF becomes LF; bytes that are no text stay. In pieces of any size. */
struct text_convert {
	enum text_encoding encoding;
	unsigned char held[4]; /* a begun character, or the beginning of the file */
	size_t n_held;
	bool cr;
	uint32_t high; /* first half of a surrogate pair */
};
_nodiscard_ int text_convert_feed(struct text_convert *t, const void *data, size_t len, struct buf *out);
_nodiscard_ int text_convert_end(struct text_convert *t, struct buf *out);

/* Interpreter and its argument from a first line "#!…"; false when there is none. Both on the heap, *ret_argument may be
 * NULL. */
bool text_shebang(const char *text, size_t len, char **ret_interpreter, char **ret_argument);

/* Whether a file of that name and beginning is a script whose text may be converted. */
bool text_is_script(const char *name, const void *head, size_t len);

/* ---- runner_install.c: JOB_INSTALL and JOB_REMOVE ---- */

/* *ret_notice: what went wrong beside it, or NULL. */
_nodiscard_ int runner_install(const struct job *job, const struct job_secrets *secrets, const struct paths *p,
			       char **ret_notice, struct error *err);
_nodiscard_ int runner_remove(const struct job *job, struct error *err);

/* ---- runner_acl.c: access lists as the kernel keeps them (linux/posix_acl_xattr.h) ---- */

enum { ACL_USER_OBJ = 1, ACL_USER = 2, ACL_GROUP_OBJ = 4, ACL_GROUP = 8, ACL_MASK = 0x10, ACL_OTHER = 0x20 };
#define ACL_XATTR   "system.posix_acl_access"
#define ACL_NO_ID   UINT32_MAX
#define ACL_READ    4u
#define ACL_SEARCH  1u
#define ACL_MOST    512 /* entries */
#define ACL_RAW_MAX (4 + 8 * ACL_MOST)

struct acl_entry {
	unsigned tag, permissions;
	uint32_t id;
};
/* Sorts, drops what is there twice; the bytes of the attribute. `raw` has ACL_RAW_MAX, `n` is at most ACL_MOST. */
size_t acl_encode(struct acl_entry *entries, size_t n, unsigned char *raw);
/* The list of a file, made from its mode if it has none; `entries` has room for ACL_MOST. */
_nodiscard_ int acl_read(const char *path, mode_t mode, struct acl_entry *entries, size_t *ret_n);

/* ---- runner_reach.c: whether those who are to read the files can get at them ---- */

/* Looks at the directory and its parents below `root`. Directories of job->open are opened for search; of what else is in
 * the way *ret_warning is told (a sentence on the heap, or NULL). *ret_opened: what has been opened, for
 * runner_close_again(). */
_nodiscard_ int runner_reach(const struct job *job, const char *root, char **ret_warning, struct jd_list *ret_opened,
			     struct error *err);
/* Takes back what is in job->opened. */
_nodiscard_ int runner_close_again(const struct job *job, struct error *err);

/* ---- runner_forget.c: JOB_FORGET ---- */

/* Goes on after a failure and tells the first. */
_nodiscard_ int runner_forget(const struct job *job, const struct paths *p, struct error *err);

/* ---- runner_hooks.c ---- */

/* What the directory holds to be run, sorted; `ret_refused` is a sentence about those that are not run, or NULL. */
_nodiscard_ int runner_hooks_list(const char *directory, char ***ret, char **ret_refused, struct error *err);
