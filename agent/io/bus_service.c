/* The process of a service, and our own program once more, beside its service. */
#include <errno.h>

#include "agent/base/cleanup.h"
#include "agent/io/bus_internal.h"

#define CALL_USEC   (30 * USEC_PER_SEC)
#define APPEND(...) (r = r < 0 ? r : sd_bus_message_append(m, __VA_ARGS__))

int bus_start_helper(struct bus *b, const char *unit, const char *description, const char *binary, const char *verb,
		     const char *argument, struct error *err)
{
	_cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
	_cleanup_message_ sd_bus_message *m = NULL;
	int r = bus_manager_call(b, "StartTransientUnit", &m);

	APPEND("ss", unit, "fail");
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'a', "(sv)");
	APPEND("(sv)", "Description", "s", description);
	APPEND("(sv)", "Type", "s", "exec");
	/* A failed one must not stand in the way of the next. */
	APPEND("(sv)", "CollectMode", "s", "inactive-or-failed");
	APPEND("(sv)", "SyslogIdentifier", "s", "evenkeel");
	APPEND("(sv)", "ExecStart", "a(sasb)", 1, binary, 3, binary, verb, argument, 0);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	APPEND("a(sa(sv))", 0);
	if (r >= 0)
		r = sd_bus_call(bus_sd(b), m, CALL_USEC, &e, NULL);
	if (r < 0 && bus_error_result(&e) == -EEXIST)
		return 0;
	return r < 0 ? error_errno(err, r, "cannot start %s", unit) : 0;
}

int bus_main_pid(struct bus *b, const char *unit, pid_t *ret, struct error *err)
{
	_cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
	_cleanup_free_ char *path = NULL;
	uint32_t pid = 0;
	int r = bus_sd(b) ? sd_bus_path_encode("/org/freedesktop/systemd1/unit", unit, &path) : -ENOTCONN;

	if (r >= 0)
		r = sd_bus_get_property_trivial(bus_sd(b), bus_destination(b), path, "org.freedesktop.systemd1.Service",
						"MainPID", &e, 'u', &pid);
	if (r < 0)
		return error_errno(err, r, "cannot ask systemd for the process of %s", unit);
	*ret = (pid_t)pid;
	return 0;
}
