/* The documents of a job: what to do, what of it is secret, what came of it. */
#include "agent/core/job.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/json_record.h"

#define ID_MAX 101
#define INPUT_MAX (512 * 1024)
#define DEFAULT_OUTPUT_MAX (1024 * 1024)
#define DEFAULT_TAIL 4096
#define DEFAULT_GRACE_SECONDS 5
#define TAIL_MAX 16384
/* A tail is cleaned: every byte may have become a replacement of three. */
#define TAIL_TEXT_MAX (3 * TAIL_MAX)

static const char *const kind_names[] = { "command", "script", "hooks", "install", "remove", "forget", NULL };
static const char *const end_names[] = { "succeeded", "exited",	    "signaled",	   "timedOut",
					 "stopped",   "notStarted", "interrupted", NULL };

int job_add_variable(struct job *j, const char *name, const char *value)
{
	struct job_variable *v = reallocarray(j->environment.items, j->environment.n + 1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	j->environment.items = v;
	v += j->environment.n;
	*v = (struct job_variable){ .name = strdup(name), .value = strdup(value ? value : "") };
	j->environment.n++;
	return v->name && v->value ? 0 : -ENOMEM;
}

bool job_id_valid(const char *id)
{
	size_t n = id ? strlen(id) : 0;

	return n > 0 && n <= ID_MAX && id[0] != '.' && id[0] != '-' &&
	       strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789.-") == n;
}

static int check_id(const char *text, struct error *err)
{
	if (job_id_valid(text))
		return 0;
	return error_set(err, ERROR_SYSTEM, -EINVAL,
			 "expected the id of a job (small letters, digits, \".\" and \"-\"), got \"%s\"", text);
}

/* One path component: a job never writes anywhere but below its own target. */
static int check_plain(const char *text, struct error *err)
{
	if (*text && !strchr(text, '/') && text[0] != '.')
		return 0;
	return error_set(err, ERROR_SYSTEM, -EINVAL, "expected a plain file name, got \"%s\"", text);
}

/* Below the working directory, whatever it is called. */
static int check_relative(const char *text, struct error *err)
{
	for (const char *p = text;; p++) {
		size_t n = strcspn(p, "/");

		if (n == 0 || (n <= 2 && strspn(p, ".") == n))
			return error_set(err, ERROR_SYSTEM, -EINVAL, "expected a file name below the working directory, got \"%s\"",
					 text);
		p += n;
		if (!*p)
			break;
	}
	return 0;
}

static const struct jd_type id_type = { .kind = JD_TEXT, .min = 1, .max = ID_MAX, .check = check_id };
static const struct jd_type text_type = { .kind = JD_TEXT };
static const struct jd_type plain_type = { .kind = JD_TEXT, .min = 1, .max = 255, .check = check_plain };
static const struct jd_type relative_type = { .kind = JD_TEXT, .min = 1, .max = 1024, .check = check_relative };
static const struct jd_type parallel_type = { .kind = JD_INTEGER, .min = 1, .max = 16 };
static const struct jd_type input_type = { .kind = JD_TEXT, .max = INPUT_MAX, .sensitive = true };
static const struct jd_type tail_type = { .kind = JD_TEXT, .max = TAIL_TEXT_MAX };
static const struct jd_type content_type = { .kind = JD_TEXT, .max = LIMIT_JOB_CONTENT, .sensitive = true };
static const struct jd_type boolean_type = { .kind = JD_BOOLEAN };
static const struct jd_type integer_type = { .kind = JD_INTEGER };
static const struct jd_type positive_type = { .kind = JD_INTEGER, .min = 0, .max = INT64_MAX };
static const struct jd_type nice_type = { .kind = JD_INTEGER, .min = -20, .max = 19 };
static const struct jd_type keep_type = { .kind = JD_INTEGER, .min = 1, .max = 100 };
static const struct jd_type output_type = { .kind = JD_INTEGER, .min = 4096, .max = 1073741824 };
static const struct jd_type tail_bytes_type = { .kind = JD_INTEGER, .min = 0, .max = TAIL_MAX };
static const struct jd_type grace_type = { .kind = JD_INTEGER, .min = 0, .max = 3600 };
static const struct jd_type format_type = { .kind = JD_INTEGER, .min = 1, .max = INT64_MAX };
static const struct jd_type kind_type = { .kind = JD_CHOICE, .names = kind_names };
static const struct jd_type end_type = { .kind = JD_CHOICE, .names = end_names, .lenient = true };
static const struct jd_type argv_type = { .kind = JD_LIST, .max = LIMIT_ARGV + 1, .element = &content_type };

/* clang-format off */
static const struct jd_field variable_fields[] = {
	{ "name",  &text_type,    offsetof(struct job_variable, name), JD_REQUIRED },
	{ "value", &content_type, offsetof(struct job_variable, value) },
	{ NULL },
};
static const struct jd_type variable_type = { .kind = JD_OBJECT, .fields = variable_fields, .size = sizeof(struct job_variable) };
static const struct jd_type environment_type = { .kind = JD_LIST, .max = 2 * LIMIT_SECRETS, .element = &variable_type };

static const struct jd_field acl_fields[] = {
	{ "user",  &text_type, offsetof(struct job_acl, user) },
	{ "group", &text_type, offsetof(struct job_acl, group) },
	{ NULL },
};
static const struct jd_type acl_type = { .kind = JD_OBJECT, .fields = acl_fields, .size = sizeof(struct job_acl) };
static const struct jd_type acls_type = { .kind = JD_LIST, .max = 16, .element = &acl_type };

static const struct jd_field file_fields[] = {
	{ "name",    &plain_type,   offsetof(struct job_file, name), JD_REQUIRED },
	{ "mode",    &text_type,    offsetof(struct job_file, mode) },
	{ "owner",   &text_type,    offsetof(struct job_file, owner) },
	{ "group",   &text_type,    offsetof(struct job_file, group) },
	{ "content", &text_type,    offsetof(struct job_file, content) },
	{ "base64",  &boolean_type, offsetof(struct job_file, base64), JD_OMIT_EMPTY },
	{ "acls",    &acls_type,    offsetof(struct job_file, acls),   JD_OMIT_EMPTY },
	{ "link",    &plain_type,   offsetof(struct job_file, link),   JD_OMIT_EMPTY },
	{ NULL },
};
static const struct jd_type file_type = { .kind = JD_OBJECT, .fields = file_fields, .size = sizeof(struct job_file) };
static const struct jd_type files_type = { .kind = JD_LIST, .max = JOB_FILES_MAX, .element = &file_type };

static const struct jd_field download_fields[] = {
	{ "name",       &relative_type, offsetof(struct job_download, name), JD_REQUIRED },
	{ "uri",        &text_type,     offsetof(struct job_download, uri),  JD_REQUIRED },
	{ "sha256",     &text_type,     offsetof(struct job_download, sha256) },
	{ "mode",       &text_type,     offsetof(struct job_download, mode) },
	{ "owner",      &text_type,     offsetof(struct job_download, owner) },
	{ "maxInBytes", &positive_type, offsetof(struct job_download, max_bytes) },
	{ NULL },
};
static const struct jd_type download_type = { .kind = JD_OBJECT, .fields = download_fields, .size = sizeof(struct job_download) };
static const struct jd_type downloads_type = { .kind = JD_LIST, .max = 64, .element = &download_type };
static const struct jd_type words_type = { .kind = JD_LIST, .max = 64, .element = &text_type };

static const struct jd_type allowed_type = { .kind = JD_LIST, .max = LIMIT_POLICY_ENTRIES, .element = &text_type };

static const struct jd_field job_fields[] = {
	{ "format",             &format_type,      offsetof(struct job, format), JD_REQUIRED },
	{ "id",                 &id_type,          offsetof(struct job, id),     JD_REQUIRED },
	{ "handler",            &text_type,        offsetof(struct job, handler) },
	{ "title",              &text_type,        offsetof(struct job, title) },
	{ "sequence",           &text_type,        offsetof(struct job, sequence) },
	{ "attempt",            &positive_type,    offsetof(struct job, attempt),              JD_OMIT_EMPTY },
	{ "kind",               &kind_type,        offsetof(struct job, kind),   JD_REQUIRED },
	{ "argv",               &argv_type,        offsetof(struct job, argv) },
	{ "shellIsSecret",      &boolean_type,     offsetof(struct job, shell_is_secret),      JD_OMIT_EMPTY },
	{ "environment",        &environment_type, offsetof(struct job, environment) },
	{ "input",              &input_type,       offsetof(struct job, input) },
	{ "user",               &text_type,        offsetof(struct job, user) },
	{ "directory",          &text_type,        offsetof(struct job, directory) },
	{ "timeoutInSeconds",   &positive_type,    offsetof(struct job, timeout_seconds),      JD_OMIT_EMPTY },
	{ "deadlineBootUsec",   &positive_type,    offsetof(struct job, deadline_boot_usec),   JD_OMIT_EMPTY },
	{ "bootId",             &text_type,        offsetof(struct job, boot_id) },
	{ "reserveInSeconds",   &positive_type,    offsetof(struct job, reserve_seconds),      JD_OMIT_EMPTY },
	{ "graceInSeconds",     &grace_type,       offsetof(struct job, grace_seconds),        0, DEFAULT_GRACE_SECONDS },
	{ "leaveSurvivors",     &boolean_type,     offsetof(struct job, leave_survivors),      JD_OMIT_EMPTY },
	{ "convertLineEndings", &boolean_type,     offsetof(struct job, convert_line_endings), JD_OMIT_EMPTY },
	{ "nice",               &nice_type,        offsetof(struct job, nice),                 JD_OMIT_EMPTY },
	{ "outputMaxInBytes",   &output_type,      offsetof(struct job, output_max_bytes),     0, DEFAULT_OUTPUT_MAX },
	{ "tailInBytes",        &tail_bytes_type,  offsetof(struct job, tail_bytes),           0, DEFAULT_TAIL },
	{ "wipe",               &boolean_type,     offsetof(struct job, wipe),                 JD_OMIT_EMPTY },
	{ "wipeScript",         &boolean_type,     offsetof(struct job, wipe_script),          JD_OMIT_EMPTY },
	{ "files",              &files_type,       offsetof(struct job, files) },
	{ "keepVersions",       &keep_type,        offsetof(struct job, keep_versions),        0, 2 },
	{ "version",            &plain_type,       offsetof(struct job, version) },
	{ "downloads",          &downloads_type,   offsetof(struct job, downloads) },
	{ "parallelDownloads",  &parallel_type,    offsetof(struct job, parallel_downloads),   0, 4 },
	{ "secretUris",         &boolean_type,     offsetof(struct job, secret_uris),          JD_OMIT_EMPTY },
	{ "identity",           &boolean_type,     offsetof(struct job, identity),             JD_OMIT_EMPTY },
	{ "stdoutUri",          &text_type,        offsetof(struct job, stdout_uri) },
	{ "stderrUri",          &text_type,        offsetof(struct job, stderr_uri) },
	{ "clientId",           &text_type,        offsetof(struct job, client_id) },
	{ "objectId",           &text_type,        offsetof(struct job, object_id) },
	{ "resourceId",         &text_type,        offsetof(struct job, resource_id) },
	{ "allowed",            &allowed_type,     offsetof(struct job, allowed) },
	{ "account",            &text_type,        offsetof(struct job, account) },
	{ "blobHosts",          &words_type,       offsetof(struct job, blob_hosts) },
	{ "noProxy",            &words_type,       offsetof(struct job, no_proxy) },
	{ "caFile",             &text_type,        offsetof(struct job, ca_file) },
	{ "stage",              &boolean_type,     offsetof(struct job, stage),                JD_OMIT_EMPTY },
	{ "drop",               &text_type,        offsetof(struct job, drop) },
	{ "open",               &words_type,       offsetof(struct job, open),                 JD_OMIT_EMPTY },
	{ "opened",             &words_type,       offsetof(struct job, opened),               JD_OMIT_EMPTY },
	{ NULL },
};
const struct jd_type job_type = { .kind = JD_OBJECT, .fields = job_fields, .size = sizeof(struct job) };

static const struct jd_field secret_fields[] = {
	{ "name",  &text_type,    offsetof(struct job_secret, name),  JD_REQUIRED },
	{ "value", &content_type, offsetof(struct job_secret, value), JD_REQUIRED },
	{ NULL },
};
static const struct jd_type secret_type = { .kind = JD_OBJECT, .fields = secret_fields, .size = sizeof(struct job_secret) };
static const struct jd_type secret_list_type = { .kind = JD_LIST, .max = 4 * LIMIT_SECRETS, .element = &secret_type };
static const struct jd_field secrets_fields[] = {
	{ "values", &secret_list_type, offsetof(struct job_secrets, values) },
	{ NULL },
};
const struct jd_type job_secrets_type = { .kind = JD_OBJECT, .fields = secrets_fields, .size = sizeof(struct job_secrets) };

static const struct jd_field result_fields[] = {
	{ "format",             &format_type,   offsetof(struct job_result, format), JD_REQUIRED },
	{ "id",                 &id_type,       offsetof(struct job_result, id),     JD_REQUIRED },
	{ "end",                &end_type,      offsetof(struct job_result, end),    JD_REQUIRED },
	{ "exitCode",           &integer_type,  offsetof(struct job_result, exit_code) },
	{ "signal",             &integer_type,  offsetof(struct job_result, signal) },
	{ "message",            &text_type,     offsetof(struct job_result, message) },
	{ "code",               &integer_type,  offsetof(struct job_result, code) },
	{ "startedAt",          &text_type,     offsetof(struct job_result, started_at) },
	{ "endedAt",            &text_type,     offsetof(struct job_result, ended_at) },
	{ "durationInMsec",     &positive_type, offsetof(struct job_result, duration_msec) },
	{ "stdoutTail",         &tail_type,     offsetof(struct job_result, stdout_tail) },
	{ "stderrTail",         &tail_type,     offsetof(struct job_result, stderr_tail) },
	{ "stdoutBytes",        &positive_type, offsetof(struct job_result, stdout_bytes) },
	{ "stderrBytes",        &positive_type, offsetof(struct job_result, stderr_bytes) },
	{ "survivors",          &positive_type, offsetof(struct job_result, survivors) },
	{ "keptInBytes",        &positive_type, offsetof(struct job_result, kept_bytes),  JD_OMIT_EMPTY },
	{ "notice",             &text_type,     offsetof(struct job_result, notice) },
	{ "bootId",             &text_type,     offsetof(struct job_result, boot_id) },
	{ "warning",            &text_type,     offsetof(struct job_result, warning) },
	{ "opened",             &words_type,    offsetof(struct job_result, opened), JD_OMIT_EMPTY },
	{ NULL },
};
const struct jd_type job_result_type = { .kind = JD_OBJECT, .fields = result_fields, .size = sizeof(struct job_result) };
/* clang-format on */

void job_init(struct job *j)
{
	*j = (struct job){ .format = JOB_FORMAT,
			   .grace_seconds = DEFAULT_GRACE_SECONDS,
			   .output_max_bytes = DEFAULT_OUTPUT_MAX,
			   .tail_bytes = DEFAULT_TAIL,
			   .parallel_downloads = 4,
			   .keep_versions = 2 };
}

/* What each kind cannot do without. */
static int check_kind(const struct job *j, struct error *err)
{
	const char *missing = NULL;

	if (j->kind == JOB_COMMAND && !j->argv.n && !j->shell_is_secret)
		missing = "a command";
	else if ((j->kind == JOB_HOOKS || j->kind == JOB_INSTALL || j->kind == JOB_REMOVE) && str_empty(j->directory))
		missing = "a directory";
	else if ((j->kind == JOB_INSTALL || j->kind == JOB_REMOVE || j->kind == JOB_FORGET) && !j->files.n)
		missing = "files";
	if (!missing)
		return 0;
	return error_set(err, ERROR_SYSTEM, -EINVAL, "job %s: a job of kind \"%s\" needs %s", j->id, kind_names[j->kind],
			 missing);
}

int job_decode(const char *text, size_t len, struct job *ret, struct error *err)
{
	struct job j = { 0 };
	int r = jd_decode_record(text, len, "job.json", LIMIT_JOB_FILE, &job_type, JOB_FORMAT, &j, err);

	if (r >= 0)
		r = check_kind(&j, err);
	if (r < 0) {
		jd_free(&job_type, &j);
		return r;
	}
	*ret = j;
	return 0;
}

int job_secrets_decode(const char *text, size_t len, struct job_secrets *ret, struct error *err)
{
	struct job_secrets s = { 0 };
	int r = jd_decode_document(text, len, "secrets of a job", LIMIT_JOB_SECRETS, &job_secrets_type, &s, err);

	if (r >= 0)
		*ret = s;
	return r;
}

const char *job_secret(const struct job_secrets *s, const char *name)
{
	const struct job_secret *v = s ? s->values.items : NULL;

	for (size_t i = 0; s && i < s->values.n; i++)
		if (str_equal(v[i].name, name))
			return v[i].value;
	return NULL;
}

int job_result_decode(const char *text, size_t len, struct job_result *ret, struct error *err)
{
	struct job_result r = { 0 };
	int k = jd_decode_document(text, len, "result.json", LIMIT_JOB_FILE, &job_result_type, &r, err);

	if (k < 0)
		return k;
	/* An end that we have no word for: nobody shall take it for a success. */
	if (r.end < 0)
		r.end = JOB_INTERRUPTED;
	*ret = r;
	return 0;
}

/* The names people know; glibc's own table is younger than the oldest glibc we run on. */
static const char *signal_name(int64_t signo)
{
	static const struct {
		int signo;
		const char *name;
	} names[] = {
		{ SIGHUP, "SIGHUP" },	{ SIGINT, "SIGINT" },	{ SIGQUIT, "SIGQUIT" }, { SIGILL, "SIGILL" },
		{ SIGTRAP, "SIGTRAP" }, { SIGABRT, "SIGABRT" }, { SIGBUS, "SIGBUS" },	{ SIGFPE, "SIGFPE" },
		{ SIGKILL, "SIGKILL" }, { SIGUSR1, "SIGUSR1" }, { SIGSEGV, "SIGSEGV" }, { SIGUSR2, "SIGUSR2" },
		{ SIGPIPE, "SIGPIPE" }, { SIGALRM, "SIGALRM" }, { SIGTERM, "SIGTERM" }, { SIGXCPU, "SIGXCPU" },
		{ SIGXFSZ, "SIGXFSZ" }, { SIGSYS, "SIGSYS" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (names[i].signo == signo)
			return names[i].name;
	return "signal";
}

const char *job_result_phrase(const struct job_result *r, char out[static 128])
{
	switch (r->end) {
	case JOB_SUCCEEDED:
		(void)snprintf(out, 128, "exit code 0");
		break;
	case JOB_EXITED:
		(void)snprintf(out, 128, "exit code %" PRId64, r->exit_code);
		break;
	case JOB_SIGNALED:
		(void)snprintf(out, 128, "killed by %s (%" PRId64 ")", signal_name(r->signal), r->signal);
		break;
	case JOB_TIMED_OUT:
		(void)snprintf(out, 128, "timed out after %" PRId64 " s", (r->duration_msec + 500) / 1000);
		break;
	case JOB_STOPPED:
		(void)snprintf(out, 128, "stopped after %" PRId64 " s", (r->duration_msec + 500) / 1000);
		break;
	case JOB_NOT_STARTED:
		(void)snprintf(out, 128, "not started");
		break;
	default:
		(void)snprintf(out, 128, "interrupted");
		break;
	}
	return out;
}

const char *job_result_why(const struct job_result *r, char out[static 128])
{
	return str_empty(r->message) ? job_result_phrase(r, out) : r->message;
}
