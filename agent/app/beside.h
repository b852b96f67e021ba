/*
 * More than one EvenKeel on a machine: the VM extension, the VM application and the distribution's package may all be there,
 * and share service, settings below /etc and state. One of them owns the service: whichever of extension and VM application
 * has put its units in /etc last; the package, whose units come after those, while there is neither.
 */
#pragma once

#include <stdbool.h>

#include "agent/base/error.h"
#include "agent/base/macros.h"

struct bus;
struct paths;

struct installed {
	char *owner;	/* extension | vm-application | package; NULL: none, the program was started by hand */
	char *version;	/* of the owner; NULL when it does not say (the package) */
	bool extension; /* unpacked by the Azure agent */
	bool package;	/* its units are there */
};
_nodiscard_ int installed_find(const struct paths *p, struct installed *ret, struct error *err);
void installed_done(struct installed *i);

bool package_is_installed(const struct paths *p);

/* The extension owns the service, and the Azure agent has dropped it without calling anything (extension-contract.md 9.9).
 * `config_folder` is that of the last goal state, NULL when there is none. */
bool extension_has_vanished(const struct paths *p, const char *config_folder);

/* After the units in /etc have gone: the package's service takes over from what runs, with the files below /etc as its settings;
 * without `start` it begins with the next boot. bus NULL: nothing to do it with. Goes on past failures; the first is returned. */
_nodiscard_ int package_take_over(struct bus *bus, bool start, struct error *err);
