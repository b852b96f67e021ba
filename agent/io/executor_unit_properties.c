/* What a job's transient unit is like: how it is run, stopped, confined, and what it may spend. */
#include <errno.h>
#include <inttypes.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/io/executor_units_internal.h"

#define SLICE	     "evenkeel-jobs.slice"
#define STOP_TIMEOUT (5 * USEC_PER_SEC)

static int append_list(sd_bus_message *m, const char *name, char *const *list)
{
	int r = sd_bus_message_open_container(m, 'r', "sv");

	if (r >= 0)
		r = sd_bus_message_append(m, "s", name);
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'v', "as");
	if (r >= 0)
		r = sd_bus_message_append_strv(m, (char **)(uintptr_t)list);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append_environment(sd_bus_message *m)
{
	_cleanup_(strv_freep) char **list = executor_environment(NULL);

	return list ? append_list(m, "Environment", list) : -ENOMEM;
}

static int append_writable(sd_bus_message *m, const char *const *writable)
{
	static const char *const none[] = { NULL };

	return append_list(m, "ReadWritePaths", (char *const *)(uintptr_t)(writable ? writable : none));
}

#define APPEND(...) (r = r < 0 ? r : sd_bus_message_append(m, __VA_ARGS__))

static int append_confinement(sd_bus_message *m, const struct executor_request *req)
{
	int r = 0;

	APPEND("(sv)", "CapabilityBoundingSet", "t", req->capabilities);
	APPEND("(sv)", "NoNewPrivileges", "b", 1);
	APPEND("(sv)", "ProtectSystem", "s", "strict");
	APPEND("(sv)", "PrivateTmp", "b", 1);
	APPEND("(sv)", "PrivateDevices", "b", 1);
	APPEND("(sv)", "ProtectKernelTunables", "b", 1);
	APPEND("(sv)", "ProtectKernelModules", "b", 1);
	APPEND("(sv)", "ProtectControlGroups", "b", 1);
	APPEND("(sv)", "RestrictSUIDSGID", "b", 1);
	APPEND("(sv)", "LockPersonality", "b", 1);
	return r < 0 ? r : append_writable(m, req->writable);
}

int unit_append_properties(sd_bus_message *m, const struct executor *e, const char *id,
			     const struct executor_request *req)
{
	int r = 0;

	APPEND("(sv)", "Description", "s", req->description);
	APPEND("(sv)", "Type", "s", "exec");
	/* Both ends stay readable by name until we release them; without it a success is gone at once. */
	APPEND("(sv)", "RemainAfterExit", "b", 1);
	APPEND("(sv)", "Slice", "s", SLICE);
	/* At shutdown jobs are stopped before the daemon, which can still record what came of them. */
	APPEND("(sv)", "After", "as", 1, "evenkeel.service");
	APPEND("(sv)", "KillMode", "s", req->leave_survivors ? "process" : "control-group");
	APPEND("(sv)", "TimeoutStopUSec", "t", (uint64_t)STOP_TIMEOUT);
	/* The runner tells whose child ran out of memory; it is not to be killed for it. */
	APPEND("(sv)", "OOMPolicy", "s", "continue");
	APPEND("(sv)", "StandardInput", "s", "null");
	APPEND("(sv)", "StandardOutput", "s", "journal");
	APPEND("(sv)", "StandardError", "s", "journal");
	APPEND("(sv)", "SyslogIdentifier", "s", "evenkeel-job");
	APPEND("(sv)", "ExecStart", "a(sasb)", 1, e->binary, 3, e->binary, "run", id, 0);
	if (req->memory_max_bytes)
		APPEND("(sv)", "MemoryMax", "t", req->memory_max_bytes);
	if (req->cpu_percent)
		APPEND("(sv)", "CPUQuotaPerSecUSec", "t", req->cpu_percent * (USEC_PER_SEC / 100));
	if (req->bind.from)
		APPEND("(sv)", "BindReadOnlyPaths", "a(ssbt)", 1, req->bind.from, req->bind.to, 0, (uint64_t)0);
	r = r < 0 ? r : append_environment(m);
	return r < 0 || !req->confined ? r : append_confinement(m, req);
}
#undef APPEND
