/* What scripts may wait for: cloud-init, locks of package managers, installed certificates. */
#include "agent/io/loop.h"
#include "handlers/common/cloud_init.h"
#include "handlers/common/package_locks.h"
#include "handlers/custom_script/script_private.h"

/* By then its generator, which runs before any service, and its first stage have left their marks. */
#define CLOUD_INIT_BEGUN (2 * USEC_PER_MINUTE)

/* Its older versions leave no mark where they are switched off (by the kernel's command line, or without a data source). */
static bool cloud_init_over(const struct handler_host *host)
{
	enum cloud_init_stage stage = cloud_init_look(host->paths);

	if (stage == CLOUD_INIT_UNKNOWN)
		return loop_now_boot(host->loop) >= CLOUD_INIT_BEGUN;
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
