/*
 * What the executor needs of the bus beyond its contract. For agent/io only.
 *
 * The connection may be lost (the bus daemon or PID 1 is replaced) and is then made again: matches of others than
 * the bus itself are gone, and the hook tells.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

#include "agent/io/bus.h"

#define SYSTEMD_PATH	"/org/freedesktop/systemd1"
#define SYSTEMD_MANAGER "org.freedesktop.systemd1.Manager"

struct bus_hook {
	struct bus_hook *next; /* owned by the bus while added */
	void (*reconnected)(void *userdata);
	void (*job_removed)(const char *path, const char *result, void *userdata);
	void *userdata;
};

void bus_add_hook(struct bus *b, struct bus_hook *hook);
void bus_remove_hook(struct bus *b, struct bus_hook *hook);

/* How long a synchronous call may take. Never 0, which libsystemd takes for its own default. */
usec_t bus_patience(const struct bus *b);
/* NULL while there is no connection. */
sd_bus *bus_sd(struct bus *b);
/* "org.freedesktop.systemd1", or NULL on the private socket. */
const char *bus_destination(const struct bus *b);
_nodiscard_ int bus_manager_call(struct bus *b, const char *method, sd_bus_message **ret);
/* Sends a manager call whose answer nobody awaits. */
void bus_manager_tell(struct bus *b, const char *method, const char *types, ...);
/* "done", "failed" … of a job that has ended lately, or NULL: it may end before the answer that names it is read. */
const char *bus_job_result(const struct bus *b, const char *path);

/* Properties of a unit's GetAll answer; copied, "" or 0 when absent. */
struct unit_properties {
	char load[32], active[32], sub[32], file_state[32], result[32];
	int main_code, main_status;
};
/* All properties of all interfaces in one call: one at a time they may be of different moments. */
_nodiscard_ int bus_get_all_call(struct bus *b, const char *unit, sd_bus_message **ret);
_nodiscard_ int bus_unit_get_all(struct bus *b, const char *unit, sd_bus_message_handler_t fn, void *userdata,
				 sd_bus_slot **ret);
_nodiscard_ int bus_read_unit(sd_bus_message *m, struct unit_properties *ret);

/* Negative errno of our answers for an error reply; 0 for NULL, no error. */
int bus_error_result(const sd_bus_error *e);

#define _cleanup_message_ _cleanup_(sd_bus_message_unrefp)
