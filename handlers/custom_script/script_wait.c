/* What scripts may wait for: files of cloud-init, locks of package managers, installed certificates. */
#include "agent/io/guest.h"
#include "handlers/custom_script/script_private.h"

const char *script_wait_unmet(const struct handler_host *host, const struct custom_script_settings *section)
{
	const int *waits = section->wait_for.items;

	for (size_t i = 0; i < section->wait_for.n; i++) {
		if (waits[i] == SCRIPT_WAIT_CLOUD_INIT && !guest_cloud_init_over(host->paths))
			return "cloud-init to finish";
		if (waits[i] == SCRIPT_WAIT_PACKAGE_LOCKS && guest_package_lock(host->paths))
			return "the package manager's lock";
		if (waits[i] == SCRIPT_WAIT_CERTIFICATES && !host->certificates_ready(host))
			return "the certificates";
	}
	return NULL;
}
