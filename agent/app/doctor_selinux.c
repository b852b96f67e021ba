/* What SELinux lets systemd do with our binary. */
#include <errno.h>
#include <stdlib.h>

#include "agent/app/doctor_private.h"
#include "agent/app/installation.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/str.h"
#include "agent/io/selinux.h"

#define PACKAGED "/usr/bin/evenkeel"

/* A policy of the administrator's own may have given it a type of its own; those are called so by custom. */
static bool may_start(const char *type)
{
	return str_equal(type, "bin_t") || str_ends(type, "_exec_t");
}

void doctor_check_selinux(struct doctor *d)
{
	enum selinux_mode mode = selinux_mode(d->paths);
	_cleanup_free_ char *installed = installation_binary(d->paths), *packaged = path_under_root(d->paths, PACKAGED);
	_cleanup_free_ char *advice = NULL;
	const char *binary = installed && fs_exists(installed) ? installed : packaged;
	enum verdict bad = mode == SELINUX_ENFORCING ? VERDICT_ERROR : VERDICT_WARNING;
	char type[SELINUX_TYPE_MAX];
	struct error e = ERROR_INIT;
	int r;

	if (!installed || !packaged) {
		d->oom = true;
		return;
	}
	if (mode == SELINUX_OFF) {
		doctor_tell(d, VERDICT_OK, NULL, "off");
		return;
	}
	r = selinux_type(binary, type, &e);
	if (r == -ENOENT) {
		doctor_tell(d, VERDICT_NOTE, "install the extension or the package", "%s, and no binary is installed",
			    selinux_mode_name(mode));
		return;
	}
	if (r >= 0 && may_start(type)) {
		doctor_tell(d, VERDICT_OK, NULL, "%s; %s is of type %s", selinux_mode_name(mode), binary, type);
		return;
	}
	advice = str_format(
		"restorecon -v %s (package policycoreutils); if the type stays, the policy or a rule of semanage fcontext "
		"says so: it must be bin_t",
		binary);
	if (!advice)
		d->oom = true;
	else if (r < 0)
		doctor_tell(d, bad, advice, "%s; %s", selinux_mode_name(mode), e.msg);
	else
		doctor_tell(d, bad, advice, "%s; %s is of type %s: systemd may not start the service from it",
			    selinux_mode_name(mode), binary, type);
}
