/*
 * The program on the machine: its binary outside the agent's version directory (the agent deletes that under a running
 * daemon), the units, who owns them, and the mark that an upgrade leaves (settings.md 3.3).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agent/base/error.h"
#include "agent/base/macros.h"

#include "agent/base/time.h"

struct bus;
struct paths;

/* Before a removal a drain is ended by restoring, for at most this long. The agent kills `uninstall` after 300 s, and what comes
 * after this takes its time, too. */
#define RETIRE_USEC (210 * USEC_PER_SEC)

/* state/owner.json: whose units these are. */
struct owner {
	char *kind;	    /* extension | vm-application */
	char *version;	    /* of the binary that the units start */
	char *installation; /* id; sequence numbers count within it */
};
/* -ENOENT: nobody. */
_nodiscard_ int owner_read(const struct paths *p, struct owner *ret, struct error *err);
void owner_done(struct owner *o);

/* state/upgrade.json: an upgrade or downgrade is under way; `uninstall` of `from` touches nothing shared. */
struct upgrade_mark {
	char *from, *to;
};
_nodiscard_ int upgrade_mark_read(const struct paths *p, struct upgrade_mark *ret, struct error *err);
_nodiscard_ int upgrade_mark_write(const struct paths *p, const struct upgrade_mark *m, struct error *err);
_nodiscard_ int upgrade_mark_clear(const struct paths *p, struct error *err);
void upgrade_mark_done(struct upgrade_mark *m);

/* Makes the durable and volatile directories with their modes. */
_nodiscard_ int installation_make_directories(const struct paths *p, struct error *err);

/* Copies the running binary to libexec/VERSION/, links it, writes units and owner, and with a manager reloads it and
 * enables and starts socket and service (restarted when it runs another binary). `installation` NULL keeps the id, or
 * makes one. Idempotent. */
_nodiscard_ int installation_put(const struct paths *p, struct bus *bus, const char *kind, bool new_id,
				 struct error *err);
/* The binary that this version's service and runners are; heap. Its directory's name is what gives it a label that systemd may
 * start (SELinux's policies know .../bin/ below /usr/local, and no libexec there). */
char *installation_binary(const struct paths *p);
/* Names of the units that are written, one after the other; NULL: there are no more. */
const char *installation_unit(size_t i);
/* Gives what was put there the labels that SELinux's policy has for it. 0 also where SELinux is off. Without them systemd may
 * not start the service, all else is as it was: a failure is told, never a reason to stop. */
_nodiscard_ int installation_label(const struct paths *p, struct error *err);
/* True when units, binary and owner are those of this version. */
bool installation_is_current(const struct paths *p);

/* Stops the service after it has ended drains by restoring (it asks over the local API first), and removes units, links,
 * binaries, records and jobs; certificates only if told. Where the distribution's package is installed it hands over instead.
 * Goes on past failures; the first is returned. */
_nodiscard_ int installation_remove(const struct paths *p, struct bus *bus, bool certificates_too, struct error *err);

/* Removes units, links, binaries and the goal state, and the package's service takes over: at once, or without `start` with the
 * next boot. Records and jobs stay. What is drained has been restored. Whoever is killed in it leaves the owner's record, and
 * the service, whosever it is then, sees that the extension has vanished and does it again. */
_nodiscard_ int installation_hand_over(const struct paths *p, struct bus *bus, bool start, struct error *err);

/* The daemon's drop-in for logind (drain.shutdown). 0 also when there is none. */
_nodiscard_ int installation_remove_logind(const struct paths *p, struct bus *bus, struct error *err);
