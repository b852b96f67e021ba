/* Who owns the service where EvenKeel is installed in more than one way. */
#include "agent/app/beside.h"

#include <string.h>

#include "agent/app/installation.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/str.h"
#include "agent/io/bus.h"
#include "agent/io/paths.h"
#include "generated/version.h"

#define ENTRIES_MAX 10000 /* of the Azure agent's directory; it keeps a file for each goal state */

bool package_is_installed(const struct paths *p)
{
	static const char *const units[] = { "/usr/lib/systemd/system/evenkeel.service", "/lib/systemd/system/evenkeel.service" };

	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		_cleanup_free_ char *path = path_join(p->root, units[i] + 1);

		if (path && fs_exists(path))
			return true;
	}
	return false;
}

/* The agent unpacks each version into a directory of its own; the handler's name may have been another publisher's. */
static bool extension_is_there(const struct paths *p)
{
	_cleanup_strv_ char **names = NULL;
	struct error ignored;

	if (fs_list(p->waagent, ENTRIES_MAX, &names, &ignored) < 0)
		return false;
	for (char **n = names; *n; n++) {
		_cleanup_free_ char *directory = NULL, *file = NULL;

		if (strncmp(*n, EK_HANDLER "-", strlen(EK_HANDLER "-")) != 0)
			continue;
		directory = path_join(p->waagent, *n);
		file = directory ? path_join(directory, "HandlerEnvironment.json") : NULL;
		if (file && fs_exists(file))
			return true;
	}
	return false;
}

int installed_find(const struct paths *p, struct installed *ret, struct error *err)
{
	_cleanup_(owner_done) struct owner o = { 0 };
	_cleanup_(installed_done) struct installed i = { 0 };
	struct error ignored;

	i.package = package_is_installed(p);
	i.extension = extension_is_there(p);
	if (owner_read(p, &o, &ignored) == 0) {
		i.owner = TAKE_PTR(o.kind);
		i.version = TAKE_PTR(o.version);
	} else if (i.package && str_set(&i.owner, "package") < 0) {
		return error_oom(err);
	}
	*ret = i;
	i = (struct installed){ 0 };
	return 0;
}

void installed_done(struct installed *i)
{
	free(TAKE_PTR(i->owner));
	free(TAKE_PTR(i->version));
}

bool extension_has_vanished(const struct paths *p, const char *config_folder)
{
	_cleanup_(owner_done) struct owner o = { 0 };

	if (config_folder && fs_is_dir(config_folder))
		return false;
	if (owner_read(p, &o, NULL) < 0 || !str_equal(o.kind, "extension"))
		return false;
	/* Between install and enable, and on a copied disk, there is no goal state. */
	return config_folder || !extension_is_there(p);
}

int package_take_over(struct bus *bus, bool start, struct error *err)
{
	static const struct {
		const char *unit;
		enum unit_verb verb;
	} units[] = { { "evenkeel.socket", UNIT_START }, { "evenkeel.service", UNIT_RESTART } };
	struct error e = ERROR_INIT;
	int first = 0;

	for (size_t i = 0; bus && i < (start ? 2 : 1) * ARRAY_SIZE(units); i++) {
		size_t k = i % ARRAY_SIZE(units);
		int r = i == k ? bus_enable_unit(bus, units[k].unit, &e) : bus_unit_job(bus, units[k].verb, units[k].unit, true, &e);

		if (r < 0 && first == 0) {
			first = r;
			if (err)
				*err = e;
		}
	}
	return first;
}
