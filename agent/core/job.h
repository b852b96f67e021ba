/*
 * A job: one piece of work that the runner (`evenkeel run ID`) does in a process tree of its own, and what came of it.
 * Both are documents in the job's directory, so a result outlives unit, daemon, agent and upgrade:
 *   jobs/ID/job.json     what to do (0600, no secrets)
 *   run/jobs/ID.secrets  environment values and contents that are secret (0600, read once, unlinked)
 *   jobs/ID/started      created exclusively by the runner: nothing runs twice
 *   jobs/ID/stdout, stderr  captured output (0600, capped)
 *   jobs/ID/work/	  the working directory, owned by the job's user
 *   jobs/ID/result.json  written atomically at the end
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/base/buf.h"
#include "agent/base/error.h"
#include "agent/base/time.h"
#include "agent/codec/json.h"

#define JOB_FORMAT 1
#define JOB_FILES_MAX 64

enum job_kind {
	JOB_COMMAND, /* argv, or shell text in `shell` (then secret as a whole: it is read from the secrets file) */
	JOB_SCRIPT,  /* script bytes become work/script.sh, run through their interpreter */
	JOB_HOOKS,   /* every executable of `directory`, in order, each with timeout; judged like a command */
	JOB_INSTALL, /* a set of files into a directory, switched by one rename */
	JOB_REMOVE,  /* a set of files we installed */
	JOB_FORGET,  /* the directories of jobs that are over, named by `files`, whoever owns what is in them */
};

struct job_variable {
	char *name;
	char *value; /* NULL: in the secrets file under the same name */
};

struct job_acl {
	char *user, *group; /* of either or both: read on the file, search on the version directory */
};

struct job_file {
	char *name; /* plain */
	char *mode, *owner, *group;
	char *content; /* name of the content in the secrets file; NULL: see job.version */
	bool base64;   /* the content is bytes, in base64 */
	struct jd_list acls; /* of struct job_acl */
	char *link; /* JOB_INSTALL without a version: a symbolic link to this name beside it, instead of a file */
};

/* Downloaded into work/ before a command or script begins. */
struct job_download {
	char *name;   /* below work/, may hold "/" */
	char *uri;    /* name of the URI in the secrets file: it may hold a signature */
	char *sha256; /* NULL: any content */
	char *mode, *owner;
	int64_t max_bytes;
};

struct job {
	int64_t format;
	char *id;	/* [a-z0-9][a-z0-9.-]{0,100} */
	char *handler;	/* customScript … */
	char *title;	/* for logs: script or step name */
	char *sequence; /* of a script: the goal state it runs for, or NULL */
	int64_t attempt; /* of a script: the how manieth try; 0: nobody counts */
	int kind;	/* enum job_kind */
	struct jd_list argv; /* of char *; JOB_SCRIPT: arguments. argv is public: never a secret */
	bool shell_is_secret; /* JOB_COMMAND without argv: the text is JOB_CONTENT_COMMAND of the secrets file */
	struct jd_list environment; /* of struct job_variable */
	char *input;	/* on the job's stdin, or NULL: /dev/null */
	char *user;	/* "name" or "name:group"; NULL: root */
	char *directory; /* working directory (JOB_HOOKS: the hooks; JOB_INSTALL, JOB_REMOVE: the target); NULL: work/ */
	int64_t timeout_seconds; /* of the whole job (JOB_HOOKS: of each hook); 0: none */
	int64_t deadline_boot_usec; /* 0: none; CLOCK_BOOTTIME of boot_id */
	char *boot_id;
	int64_t reserve_seconds; /* JOB_HOOKS with a deadline: kept for each that comes after the one that runs */
	int64_t grace_seconds; /* between SIGTERM and SIGKILL when time is up or the job is stopped */
	bool leave_survivors;  /* what still runs after the end runs on, and is counted; else it is killed */
	bool convert_line_endings;
	int64_t nice;
	int64_t output_max_bytes, tail_bytes; /* of each stream; beyond the maximum the middle is dropped */
	bool wipe;		   /* remove work/ after the run */
	bool wipe_script;	   /* JOB_SCRIPT: remove work/script.sh after the run (it came from a secret) */
	struct jd_list files;	   /* JOB_INSTALL, JOB_REMOVE, JOB_FORGET: of struct job_file; names only but to install */
	int64_t keep_versions;	   /* JOB_INSTALL: how many are left, the new one included */
	/* JOB_INSTALL: name of the set, plain: its files stand in DIRECTORY/versions/VERSION, and DIRECTORY/NAME shows those of
	 * the current one. Files without content: switch (back) to a version that is there. NULL: no set, each file is a
	 * plain one of its own. */
	char *version;
	struct jd_list downloads;  /* JOB_COMMAND, JOB_SCRIPT: of struct job_download */
	int64_t parallel_downloads;
	bool secret_uris; /* they came from secrets: as little as can be is told of them */
	/* Where the output goes as well: names of append blobs' URIs in the secrets file, or NULL. */
	char *stdout_uri, *stderr_uri;
	bool identity; /* blob hosts are asked with a managed identity's token: the one named here, or the system's */
	char *client_id, *object_id, *resource_id;
	struct jd_list allowed;	   /* of char *: SHA-256 of what may run (downloads, script), after conversion; empty: anything */
	char *account; /* storage account whose key, JOB_CONTENT_STORAGE_KEY, signs every URI; NULL: none */
	struct jd_list blob_hosts; /* of char *: storage under names of its own */
	struct jd_list no_proxy; /* of char *; the proxy itself is JOB_CONTENT_PROXY of the secrets file */
	char *ca_file;
	/* JOB_INSTALL: only make the version, for a check before the switch. A plain file then stands beside the one in use, as
	 * JOB_FILE_NEW; without content it takes its place, and what was there stays as JOB_FILE_FORMER unless keep_versions is
	 * 1. */
	bool stage;
	/* JOB_INSTALL without content: switch back, and remove this version. For plain files any text: what was there comes
	 * back, and what was made beside it goes. */
	char *drop;
	struct jd_list open;   /* of char *; JOB_INSTALL: directories that may be opened for those who are to read the files */
	struct jd_list opened; /* of char *; JOB_REMOVE: what has been opened, as the results of installs told it */
};

#define JOB_FILE_NEW	".evenkeel-tmp-new-"    /* and the file's name */
#define JOB_FILE_FORMER ".evenkeel-tmp-former-"

/* Names in the secrets file of what is no environment value. */
#define JOB_CONTENT_COMMAND "/command" /* shell text */
#define JOB_CONTENT_PROXY   "/proxy"
#define JOB_CONTENT_STORAGE_KEY "/storage-key"
#define JOB_CONTENT_STDOUT_URI	"/stdout-uri"
#define JOB_CONTENT_STDERR_URI	"/stderr-uri"
#define JOB_CONTENT_SCRIPT  "/script"  /* base64 of the script, which may be gzip */

/* Values and contents that are secret: a flat map in one document of its own. */
struct job_secret {
	char *name;
	char *value; /* text; base64 where the job says so */
};
struct job_secrets {
	struct jd_list values; /* of struct job_secret */
};

enum job_end { JOB_SUCCEEDED, JOB_EXITED, JOB_SIGNALED, JOB_TIMED_OUT, JOB_STOPPED, JOB_NOT_STARTED, JOB_INTERRUPTED };

struct job_result {
	int64_t format;
	char *id;
	int end; /* enum job_end */
	int64_t exit_code, signal;
	char *message;	 /* a whole sentence */
	int64_t code;	 /* status_code of it */
	char *started_at, *ended_at; /* ISO 8601 */
	int64_t duration_msec;
	char *stdout_tail, *stderr_tail; /* valid UTF-8 */
	int64_t stdout_bytes, stderr_bytes; /* produced, also beyond the cap */
	int64_t survivors; /* processes left running */
	int64_t kept_bytes; /* what the job's directory takes on the disk; 0: not measured */
	char *notice; /* what went wrong beside it, a phrase, or NULL: the job is judged without it */
	char *boot_id;
	char *warning;	       /* JOB_INSTALL: who cannot get at the files: a sentence, or NULL */
	struct jd_list opened; /* of char *; JOB_INSTALL: "user:ID:DIRECTORY" or "group:ID:DIRECTORY": may search it since */
};

extern const struct jd_type job_type, job_secrets_type, job_result_type;
void job_init(struct job *j); /* all members at their defaults, nothing owned; release with jd_free(&job_type, j) */
bool job_id_valid(const char *id);
/* Adds a variable to its environment; a `value` of NULL is "". -ENOMEM. */
_nodiscard_ int job_add_variable(struct job *j, const char *name, const char *value);
/* -EPROTO: of a later version, whose runner is the one to do it. */
_nodiscard_ int job_decode(const char *text, size_t len, struct job *ret, struct error *err);
_nodiscard_ int job_secrets_decode(const char *text, size_t len, struct job_secrets *ret, struct error *err);
/* The value of that name, or NULL. */
const char *job_secret(const struct job_secrets *s, const char *name);
/* Read whatever its format, since what has ended has ended: in all formats to come id, end, exitCode, signal, code and message
 * mean the same. */
_nodiscard_ int job_result_decode(const char *text, size_t len, struct job_result *ret, struct error *err);
/* "exit code 7", "killed by SIGSEGV (11)", "timed out after 60 s" … as one phrase, never NULL. */
const char *job_result_phrase(const struct job_result *r, char out[static 128]);
/* Its own sentence; where there is none, that phrase. */
const char *job_result_why(const struct job_result *r, char out[static 128]);
