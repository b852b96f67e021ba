/* What scripts may wait for: cloud-init, locks of package managers, installed certificates. */
#include "handlers/common/cloud_init.h"
#include "handlers/common/package_locks.h"
#include "handlers/custom_script/script_private.h"

static bool cloud_init_over(const struct handler_host *host)
{
	enum cloud_init_stage stage = cloud_init_look(host->paths);

	return stage == CLOUD_INIT_ABSENT || stage == CLOUD_INIT_FINISHED;
}

const char *script_wait_unmet(const struct handler_host *host, const struct custom_script_settings *section)
{
	const int *waits = section->wait_for.items;

	for (size_t i = 0; i < section->wait_for.n; i++) {
		if (waits[i] == SCRIPT_WAIT_CLOUD_INIT && !cloud_init_over(host))
			return "cloud-init to finish";
		if (waits[i] == SCRIPT_WAIT_PACKAGE_LOCKS && package_locks_held(host->paths))
			return "the package manager's lock";
		if (waits[i] == SCRIPT_WAIT_CERTIFICATES && !host->certificates_ready(host))
			return "the certificates";
	}
	return NULL;
}
