/* Nothing runs, and no file stays, that the machine's policy does not name by its checksum. */
#include "agent/app/runner_job.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/codec/digest.h"

#define PIECE 65536

static int check(const struct runner *r, const char *name, const char *hex, struct error *err)
{
	char *const *allowed = r->job.allowed.items;

	for (size_t i = 0; i < r->job.allowed.n; i++)
		if (strcasecmp(allowed[i], hex) == 0)
			return 0;
	return error_set(err, ERROR_USER, -EKEYREJECTED,
			 "the policy of this machine does not allow %s: its SHA-256 %s is not among allowedScripts", name, hex);
}

static int hash_file(const char *path, char hex[static SHA256_HEX_MAX], struct error *err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	_cleanup_(sha256_freep) struct sha256 *h = NULL;
	char piece[PIECE];
	ssize_t n = fd < 0 ? -1 : 1;
	int k = sha256_new(&h);

	while (k >= 0 && n > 0) {
		n = read(fd, piece, sizeof(piece));
		if (n > 0)
			k = sha256_update(h, piece, (size_t)n);
	}
	if (n < 0)
		return error_errno(err, -errno, "cannot read %s", path);
	if (k >= 0)
		k = sha256_final_hex(h, hex);
	return k < 0 ? error_errno(err, k, "cannot make the checksum of %s", path) : 0;
}

int runner_policy_downloads(const struct runner *r, struct error *err)
{
	const struct job_download *d = r->job.downloads.items;

	for (size_t i = 0; r->job.allowed.n && i < r->job.downloads.n; i++) {
		_cleanup_free_ char *path = path_join(r->work, d[i].name);
		char hex[SHA256_HEX_MAX];
		int k = path ? hash_file(path, hex, err) : error_oom(err);

		if (k >= 0)
			k = check(r, d[i].name, hex, err);
		if (k < 0) {
			if (path)
				(void)unlink(path);
			return k;
		}
	}
	return 0;
}

int runner_policy_script(const struct runner *r, const void *data, size_t len, struct error *err)
{
	char hex[SHA256_HEX_MAX];
	int k;

	if (!r->job.allowed.n)
		return 0;
	k = sha256_hex(data, len, hex);
	return k < 0 ? error_errno(err, k, "cannot make the script's checksum") : check(r, "this script", hex, err);
}
