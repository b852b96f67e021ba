/* Reads the few identity files of the kernel and of systemd. */
#include "agent/io/machine.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/io/paths.h"

/* One line of letters, digits and "-", lower-cased, into `ret`. A file of anything else identifies nothing. */
static int read_id(const char *path, char ret[static MACHINE_ID_MAX], struct error *err)
{
	_cleanup_buf_ struct buf b = BUF_INIT(4096);
	char id[MACHINE_ID_MAX];
	size_t n = 0;
	int r = fs_read(path, 4096, &b, err);

	if (r < 0)
		return r;
	for (const char *s = buf_str(&b); *s && *s != '\n'; s++) {
		if (n == sizeof(id) - 1 || !(isalnum((unsigned char)*s) || *s == '-'))
			return error_set(err, ERROR_SYSTEM, -EBADMSG, "%s does not hold an identifier", path);
		id[n++] = (char)tolower((unsigned char)*s);
	}
	if (!n)
		return error_set(err, ERROR_SYSTEM, -EBADMSG, "%s is empty", path);
	memcpy(ret, id, n);
	ret[n] = '\0';
	return 0;
}

/* Firmware that was never given a UUID reports one digit throughout, the same on every such machine. */
static bool says_nothing(const char *uuid)
{
	char first = '\0';

	for (const char *s = uuid; *s; s++) {
		if (*s == '-')
			continue;
		if (first && *s != first)
			return false;
		first = *s;
	}
	return true;
}

int machine_identity(const struct paths *p, char ret[static MACHINE_ID_MAX], struct error *err)
{
	_cleanup_free_ char *dmi = path_under_root(p, "/sys/class/dmi/id/product_uuid");
	_cleanup_free_ char *mid = path_under_root(p, "/etc/machine-id");
	char id[MACHINE_ID_MAX];

	if (!dmi || !mid)
		return error_oom(err);
	/* arm64 guests and some kernels have no DMI, and only root may read the UUID. */
	if (read_id(dmi, id, NULL) < 0 || says_nothing(id)) {
		int r = read_id(mid, id, err);

		if (r < 0)
			return error_set(err, ERROR_SYSTEM, -ENOENT,
					 "this machine cannot be told from its clones: neither %s nor %s can be read", dmi,
					 mid);
	}
	memcpy(ret, id, sizeof(id));
	return 0;
}

int machine_boot_id(const struct paths *p, char ret[static MACHINE_ID_MAX], struct error *err)
{
	static const char path[] = "/proc/sys/kernel/random/boot_id";
	_cleanup_free_ char *below = path_under_root(p, path);

	if (!below)
		return error_oom(err);
	return read_id(fs_exists(below) ? below : path, ret, err);
}
