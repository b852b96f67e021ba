/* Directories of the customer's that are made for files that we install. */
#include "agent/app/runner_install.h"

#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/str.h"
#include "agent/io/paths.h"
#include "agent/io/selinux.h"

/* The path and those above it that are not there yet, from the top; the strings are the list's. At most the last `max`. */
static int find_missing(const char *path, char **list, size_t max, size_t *ret_n, struct error *err)
{
	size_t n = 0, len = strlen(path);

	while (len && n < max) {
		char *prefix = strndup(path, len);

		if (!prefix)
			return error_oom(err);
		if (fs_exists(prefix)) {
			free(prefix);
			break;
		}
		memmove(list + 1, list, n++ * sizeof(*list));
		list[0] = prefix;
		while (len && path[len - 1] != '/')
			len--;
		while (len && path[len - 1] == '/')
			len--;
	}
	*ret_n = n;
	return 0;
}

int directory_make(const struct paths *p, const char *path, char **ret_notice, struct error *err)
{
	char *made[SELINUX_PATHS_MAX + 1] = { NULL };
	struct error e = ERROR_INIT;
	size_t n = 0;
	int r = 0;

	if (selinux_mode(p) != SELINUX_OFF)
		r = find_missing(path, made, SELINUX_PATHS_MAX, &n, err);
	if (r >= 0)
		r = fs_mkdirs(path, 0755, err);
	if (r >= 0 && n && selinux_relabel(p, (const char *const *)made, n, SELINUX_RELABEL_USEC, &e) < 0)
		*ret_notice = str_format("%s may not have the SELinux label that it should: %.400s", path, e.msg);
	for (size_t i = 0; i < ARRAY_SIZE(made); i++)
		free(made[i]);
	return r;
}
