/*
 * systemd over D-Bus: the system bus, or its private socket when the bus daemon is down. Every call is
 * asynchronous on the loop; jobs of units are awaited by JobRemoved. Callbacks run at most once, from the loop;
 * freeing the call before cancels it. All messages name the unit.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "agent/base/error.h"
#include "agent/base/time.h"

struct loop;
struct bus;
struct bus_call;

/* -ENOENT: there is none (a container, a test). -ENOTCONN, -ETIMEDOUT …: there is one, and it does not answer. Only with
 * EVENKEEL_ROOT unset is the real one tried; the caller decides what to do without. */
_nodiscard_ int bus_open(struct bus **ret, struct loop *loop, struct error *err);
/* After all its calls. */
void bus_close(struct bus *b);

enum unit_verb { UNIT_START, UNIT_STOP, UNIT_RESTART, UNIT_RELOAD, UNIT_RELOAD_OR_RESTART, UNIT_TRY_RESTART };

struct unit_answer {
	int result; /* 0; -ETIMEDOUT; -ENOENT no such unit; -EACCES masked; -EIO job failed … */
	const char *detail; /* for people, when result < 0 */
};
typedef void (*unit_done_fn)(const struct unit_answer *answer, void *userdata);

/* Queues the job (mode "replace") and waits for its end, at most `timeout_usec`. */
_nodiscard_ int unit_do(struct bus *b, enum unit_verb verb, const char *unit, usec_t timeout_usec, unit_done_fn done,
			void *userdata, struct bus_call **ret, struct error *err);

struct unit_state {
	int result; /* 0, or negative errno: then only detail is set */
	const char *detail;
	const char *load;   /* loaded, not-found, masked … */
	const char *active; /* active, inactive, failed, activating, deactivating … */
	const char *sub;
	const char *file_state; /* enabled, disabled, masked, static … or "" */
};
typedef void (*unit_state_fn)(const struct unit_state *state, void *userdata);
_nodiscard_ int unit_get_state(struct bus *b, const char *unit, unit_state_fn done, void *userdata,
			       struct bus_call **ret, struct error *err);

/* KillUnit(unit, "all", signo); no answer is awaited. */
_nodiscard_ int unit_kill(struct bus *b, const char *unit, int signo, struct error *err);

/* Synchronous, for the short-lived commands (install, enable, uninstall); each waits at most 30 s, and none beyond the
 * deadline (boot time): a command of several has one end, which is before the Azure agent's. Without one: none. */
void bus_set_deadline(struct bus *b, usec_t deadline_boot);
_nodiscard_ int bus_daemon_reload(struct bus *b, struct error *err);
_nodiscard_ int bus_enable_unit(struct bus *b, const char *unit_path_or_name, struct error *err);
_nodiscard_ int bus_disable_unit(struct bus *b, const char *unit, struct error *err);
_nodiscard_ int bus_unit_job(struct bus *b, enum unit_verb verb, const char *unit, bool wait, struct error *err);
/* 0: nothing runs. */
_nodiscard_ int bus_main_pid(struct bus *b, const char *unit, pid_t *ret, struct error *err);
/* Starts `BINARY VERB ARGUMENT` as a transient unit, outside of the caller's sandbox and life; its end is not awaited. 0 also
 * when one of that name runs already. */
_nodiscard_ int bus_start_helper(struct bus *b, const char *unit, const char *description, const char *binary, const char *verb,
				 const char *argument, struct error *err);
/* KillUnit(unit, "main", signo). Awaited: systemd refuses a signal whose sender has gone before it could look who that is. */
_nodiscard_ int bus_kill_unit(struct bus *b, const char *unit, int signo, struct error *err);
/* Result buffers of 64 bytes: LoadState, ActiveState, SubState. */
_nodiscard_ int bus_unit_state(struct bus *b, const char *unit, char load[static 64], char active[static 64],
			       char sub[static 64], struct error *err);

void bus_call_free(struct bus_call *c);
DEFINE_CLEANUP(struct bus *, bus_close)
DEFINE_CLEANUP(struct bus_call *, bus_call_free)
