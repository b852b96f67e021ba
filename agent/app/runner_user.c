/* As which user a job runs, and with which environment. */
#include "agent/app/runner.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/cleanup.h"
#include "agent/base/secret.h"
#include "agent/base/str.h"

#define SANE_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define NSS_BUFFER_MAX (1024 * 1024)

/* ---- users ---- */

/* Calls getpwnam_r, getpwuid_r or getgrnam_r with a buffer that is large enough. */
static int find_passwd(const char *name, uid_t uid, struct passwd *p, char **ret_buffer)
{
	for (size_t size = 4096; size <= NSS_BUFFER_MAX; size *= 4) {
		_cleanup_free_ char *buffer = malloc(size);
		struct passwd *found = NULL;
		int r;

		if (!buffer)
			return -ENOMEM;
		r = name ? getpwnam_r(name, p, buffer, size, &found) : getpwuid_r(uid, p, buffer, size, &found);
		if (found) {
			*ret_buffer = TAKE_PTR(buffer);
			return 0;
		}
		if (r != ERANGE)
			return r && r != ENOENT && r != ESRCH ? -r : -ENOENT;
	}
	return -ERANGE;
}

static int find_group(const char *name, gid_t *ret)
{
	for (size_t size = 4096; size <= NSS_BUFFER_MAX; size *= 4) {
		_cleanup_free_ char *buffer = malloc(size);
		struct group g, *found = NULL;
		int r;

		if (!buffer)
			return -ENOMEM;
		r = getgrnam_r(name, &g, buffer, size, &found);
		if (found) {
			*ret = g.gr_gid;
			return 0;
		}
		if (r != ERANGE)
			return r && r != ENOENT && r != ESRCH ? -r : -ENOENT;
	}
	return -ERANGE;
}

static int set_user(struct runner_user *u, const char *name, const char *home, const char *shell)
{
	u->name = strdup(name);
	u->home = strdup(str_empty(home) ? "/" : home);
	u->shell = strdup(str_empty(shell) ? "/bin/sh" : shell);
	return u->name && u->home && u->shell ? 0 : -ENOMEM;
}

static int find_named(const char *name, const char *group, struct runner_user *u, struct error *err)
{
	_cleanup_free_ char *buffer = NULL;
	struct passwd p;
	int r = find_passwd(name, geteuid(), &p, &buffer);

	/* A container's only user may have no name. */
	if (r == -ENOENT && !name) {
		u->uid = geteuid();
		u->gid = getegid();
		return set_user(u, u->uid ? "nobody" : "root", u->uid ? "/" : "/root", NULL) < 0 ? error_oom(err) : 0;
	}
	if (r == -ENOENT)
		return error_set(err, ERROR_USER, -ENOENT, "there is no user \"%s\" on this machine", name);
	if (r < 0)
		return error_errno(err, r, "cannot look up the user \"%s\"", name ? name : "of this process");
	u->uid = p.pw_uid;
	u->gid = p.pw_gid;
	if (set_user(u, p.pw_name, p.pw_dir, p.pw_shell) < 0)
		return error_oom(err);
	r = group ? find_group(group, &u->gid) : 0;
	if (r == -ENOENT)
		return error_set(err, ERROR_USER, r, "there is no group \"%s\" on this machine", group);
	return r < 0 ? error_errno(err, r, "cannot look up the group \"%s\"", group) : 0;
}

int runner_user_find(const char *text, struct runner_user *ret, struct error *err)
{
	_cleanup_free_ char *name = text ? strdup(text) : NULL;
	struct runner_user u = { 0 };
	char *group;
	int r;

	if (text && !name)
		return error_oom(err);
	group = name ? strchr(name, ':') : NULL;
	if (group)
		*group++ = '\0';
	r = find_named(name, group, &u, err);
	if (r < 0) {
		runner_user_done(&u);
		return r;
	}
	u.switched = u.uid != geteuid() || u.gid != getegid();
	*ret = u;
	return 0;
}

void runner_user_done(struct runner_user *u)
{
	free(u->name);
	free(u->home);
	free(u->shell);
	*u = (struct runner_user){ 0 };
}

/* ---- environment ---- */

static int set_variable(char **env, size_t *n, const char *name, const char *value)
{
	char *text = str_format("%s=%s", name, value);
	size_t len = strlen(name);

	if (!text)
		return -ENOMEM;
	for (size_t i = 0; i < *n; i++)
		if (strncmp(env[i], text, len + 1) == 0) {
			erase_and_free(env[i]);
			env[i] = text;
			return 0;
		}
	env[(*n)++] = text;
	return 0;
}

int runner_environment(const struct job *job, const struct job_secrets *secrets, const struct runner_user *u,
		       char ***ret, struct error *err)
{
	const struct job_variable *v = job->environment.items;
	const struct job_variable base[] = {
		{ (char[]){ "HOME" }, u->home },  { (char[]){ "USER" }, u->name },
		{ (char[]){ "LOGNAME" }, u->name }, { (char[]){ "SHELL" }, u->shell },
		{ (char[]){ "PATH" }, (char[]){ SANE_PATH } }, { (char[]){ "LANG" }, (char[]){ "C.UTF-8" } },
	};
	char **env = calloc(ARRAY_SIZE(base) + job->environment.n + 1, sizeof(*env));
	size_t n = 0;
	int r = env ? 0 : error_oom(err);

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(base); i++)
		r = set_variable(env, &n, base[i].name, base[i].value) < 0 ? error_oom(err) : 0;
	for (size_t i = 0; r >= 0 && i < job->environment.n; i++) {
		const char *value = v[i].value ? v[i].value : job_secret(secrets, v[i].name);

		if (!value)
			r = error_set(err, ERROR_SYSTEM, -ENOENT, "the secret value of the variable %s is missing", v[i].name);
		else
			r = set_variable(env, &n, v[i].name, value) < 0 ? error_oom(err) : 0;
	}
	if (r < 0) {
		runner_environment_free(env);
		return r;
	}
	*ret = env;
	return 0;
}

void runner_environment_free(char **env)
{
	for (char **e = env; e && *e; e++)
		erase_and_free(*e);
	free(env);
}
