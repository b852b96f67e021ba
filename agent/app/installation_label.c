/* The labels of what an installation has written outside of the distribution's packages (SELinux). */
#include "agent/app/installation.h"

#include <stdlib.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/io/paths.h"
#include "agent/io/selinux.h"
#include "generated/version.h"

/* Not below /run: the policy has no label there, and what systemd makes for us has the right one. Not the records, jobs and
 * certificates either: they are made in directories that are labelled here. Not the hooks and settings of others. */
int installation_label(const struct paths *p, struct error *err)
{
	char *made[SELINUX_PATHS_MAX] = { NULL };
	const char *list[SELINUX_PATHS_MAX];
	size_t n = 0, used = 0;
	bool whole = true;
	int r;

	if (selinux_mode(p) == SELINUX_OFF)
		return 0;
	made[n++] = path_join(p->libexec, EK_VERSION);
	made[n++] = str_format("%s/%s/bin", p->libexec, EK_VERSION);
	made[n++] = installation_binary(p);
	made[n++] = path_join(p->logind, LOGIND_DROPIN);
	made[n++] = path_join(p->log_default, "evenkeel.log");
	for (size_t i = 0; installation_unit(i); i++)
		made[n++] = path_join(p->units, installation_unit(i));

	list[used++] = p->libexec;
	list[used++] = p->bin_link;
	list[used++] = p->etc;
	list[used++] = p->state;
	list[used++] = p->records;
	list[used++] = p->jobs;
	list[used++] = p->certificates;
	list[used++] = p->log_default;
	for (size_t i = 0; i < n; i++) {
		whole = whole && made[i];
		list[used++] = made[i];
	}
	r = whole ? selinux_relabel(p, list, used, SELINUX_RELABEL_USEC, err) : error_oom(err);
	for (size_t i = 0; i < n; i++)
		free(made[i]);
	return r;
}
