/* The tree of the program's own files, built once at start from one root. */
#include "agent/io/paths.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"

static const struct {
	size_t offset;
	const char *path;
} layout[] = {
	{ offsetof(struct paths, state), "/var/lib/evenkeel" },
	{ offsetof(struct paths, records), "/var/lib/evenkeel/state" },
	{ offsetof(struct paths, jobs), "/var/lib/evenkeel/jobs" },
	{ offsetof(struct paths, certificates), "/var/lib/evenkeel/certificates" },
	{ offsetof(struct paths, run), "/run/evenkeel" },
	{ offsetof(struct paths, run_jobs), "/run/evenkeel/jobs" },
	{ offsetof(struct paths, api_socket), "/run/evenkeel/api.sock" },
	{ offsetof(struct paths, etc), "/etc/evenkeel" },
	/* The agent names log directories after publisher and type, which are build options. */
	{ offsetof(struct paths, log_default), "/var/log/azure/" EK_PUBLISHER "." EK_TYPE },
	{ offsetof(struct paths, libexec), "/usr/local/libexec/evenkeel" },
	{ offsetof(struct paths, bin_link), "/usr/local/bin/evenkeel" },
	{ offsetof(struct paths, systemd), "/etc/systemd" },
	{ offsetof(struct paths, units), "/etc/systemd/system" },
	{ offsetof(struct paths, logind), "/etc/systemd/logind.conf.d" },
	{ offsetof(struct paths, console), "/dev/console" },
	{ offsetof(struct paths, waagent), "/var/lib/waagent" },
};

static char **member(struct paths *p, size_t offset)
{
	return (char **)(void *)((char *)p + offset);
}

/* A root that is not absolute would move with the working directory; "/" alone is no root at all. */
static int set_root(struct paths *p, const char *root, struct error *err)
{
	size_t n = strlen(root);

	if (n && root[0] != '/')
		return error_set(err, ERROR_USER, -EINVAL, "the root directory \"%s\" is not an absolute path", root);
	while (n && root[n - 1] == '/')
		n--;
	p->root = strndup(root, n);
	return p->root ? 0 : error_oom(err);
}

int paths_init(struct paths *p, const char *root, struct error *err)
{
	struct paths made = { 0 };
	int r;

	if (!root)
		root = getenv("EVENKEEL_ROOT");
	r = set_root(&made, root ? root : "", err);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(layout); i++) {
		char **m = member(&made, layout[i].offset);

		*m = str_format("%s%s", made.root, layout[i].path);
		if (!*m)
			r = error_oom(err);
	}
	if (r < 0) {
		paths_done(&made);
		return r;
	}
	*p = made;
	return 0;
}

void paths_done(struct paths *p)
{
	for (size_t i = 0; i < ARRAY_SIZE(layout); i++)
		free(*member(p, layout[i].offset));
	free(p->root);
	*p = (struct paths){ 0 };
}

char *path_join(const char *dir, const char *name)
{
	size_t n = strlen(dir);

	while (n && dir[n - 1] == '/')
		n--;
	while (*name == '/')
		name++;
	return str_format("%.*s/%s", (int)n, dir, name);
}

char *path_parent(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (!slash)
		return strdup(".");
	return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

char *path_under_root(const struct paths *p, const char *absolute)
{
	size_t n = strlen(p->root);

	/* "/r" is under root "/r" and so is "/r/x", but "/rest" is not. */
	if (n && strncmp(absolute, p->root, n) == 0 && (!absolute[n] || absolute[n] == '/'))
		return strdup(absolute);
	return str_format("%s%s", p->root, absolute);
}

char *path_of_job(const struct paths *p, const char *id)
{
	_cleanup_free_ char *volatile_one = path_join(p->run_jobs, id);
	_cleanup_free_ char *file = volatile_one ? path_join(volatile_one, "job.json") : NULL;

	if (file && access(file, F_OK) == 0)
		return TAKE_PTR(volatile_one);
	return file ? path_join(p->jobs, id) : NULL;
}
