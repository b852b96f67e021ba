/* The table of settings.md 2.2, row by row. */
#include "agent/core/event_machine.h"

#include <stddef.h>

#define TO(s, a) { EVENT_##s, EVENT_ACT_##a }

const char *const event_state_names[] = { "new", "noted", "waiting", "holding", "acked", "started", NULL };

/* clang-format off */
static const struct event_cell table[_EVENT_STATES][_EVENT_INPUTS] = {
	[EVENT_NEW] = {
		[EVENT_IN_NOTE]         = TO(NOTED,   NOTE),
		[EVENT_IN_WAIT]         = TO(WAITING, NONE),
		[EVENT_IN_BEGIN]        = TO(BEGUN,   HOLD_NO_TIME),
		[EVENT_IN_DUE]          = TO(NEW,     NONE),
		[EVENT_IN_DRAINED]      = TO(NEW,     NONE),
		[EVENT_IN_ABORTED]      = TO(NEW,     NONE),
		[EVENT_IN_ACK_OK]       = TO(NEW,     NONE),
		[EVENT_IN_ACK_FAILED]   = TO(NEW,     NONE),
		[EVENT_IN_STARTED]      = TO(NEW,     NONE),
		[EVENT_IN_REMOVED]      = TO(GONE,    FORGET),
		[EVENT_IN_REBOOTED]     = TO(NEW,     NONE),
		[EVENT_IN_OPERATOR_ACK] = TO(NEW,     NONE),
		[EVENT_IN_WAIVE]        = TO(NOTED,   NONE),
		[EVENT_IN_RELOAD]       = TO(NEW,     DECIDE),
	},
	[EVENT_NOTED] = {
		[EVENT_IN_NOTE]         = TO(NOTED,   NOTE),
		[EVENT_IN_WAIT]         = TO(WAITING, NONE),
		[EVENT_IN_BEGIN]        = TO(BEGUN,   HOLD_NO_TIME),
		[EVENT_IN_DUE]          = TO(NOTED,   NONE),
		[EVENT_IN_DRAINED]      = TO(NOTED,   NONE),
		[EVENT_IN_ABORTED]      = TO(NOTED,   NONE),
		[EVENT_IN_ACK_OK]       = TO(NOTED,   RECORD_ACK),
		[EVENT_IN_ACK_FAILED]   = TO(NOTED,   RETRY_ACK),
		[EVENT_IN_STARTED]      = TO(NOTED,   NONE),
		[EVENT_IN_REMOVED]      = TO(GONE,    FORGET),
		[EVENT_IN_REBOOTED]     = TO(NOTED,   NONE),
		[EVENT_IN_OPERATOR_ACK] = TO(NOTED,   ACK),
		[EVENT_IN_WAIVE]        = TO(NOTED,   NONE),
		[EVENT_IN_RELOAD]       = TO(NOTED,   DECIDE),
	},
	[EVENT_WAITING] = {
		[EVENT_IN_NOTE]         = TO(NOTED,   NOTE),
		[EVENT_IN_WAIT]         = TO(WAITING, NONE),
		[EVENT_IN_BEGIN]        = TO(BEGUN,   HOLD_NO_TIME),
		[EVENT_IN_DUE]          = TO(HOLDING, HOLD),
		[EVENT_IN_DRAINED]      = TO(WAITING, NONE),
		[EVENT_IN_ABORTED]      = TO(WAITING, NONE),
		[EVENT_IN_ACK_OK]       = TO(WAITING, NONE),
		[EVENT_IN_ACK_FAILED]   = TO(WAITING, NONE),
		[EVENT_IN_STARTED]      = TO(BEGUN,   HOLD_NO_TIME),
		[EVENT_IN_REMOVED]      = TO(GONE,    FORGET),
		[EVENT_IN_REBOOTED]     = TO(WAITING, NONE),
		[EVENT_IN_OPERATOR_ACK] = TO(NOTED,   ACK),
		[EVENT_IN_WAIVE]        = TO(NOTED,   NONE),
		[EVENT_IN_RELOAD]       = TO(WAITING, DECIDE),
	},
	[EVENT_HOLDING] = {
		[EVENT_IN_NOTE]         = TO(HOLDING, NONE),
		[EVENT_IN_WAIT]         = TO(HOLDING, NONE),
		[EVENT_IN_BEGIN]        = TO(HOLDING, NONE),
		[EVENT_IN_DUE]          = TO(HOLDING, NONE),
		[EVENT_IN_DRAINED]      = TO(HOLDING, ACK_IF_ALLOWED),
		[EVENT_IN_ABORTED]      = TO(HOLDING, TELL_ABORTED),
		[EVENT_IN_ACK_OK]       = TO(ACKED,   RECORD_ACK),
		[EVENT_IN_ACK_FAILED]   = TO(HOLDING, RETRY_ACK),
		[EVENT_IN_STARTED]      = TO(BEGUN,   NONE),
		[EVENT_IN_REMOVED]      = TO(GONE,    FORGET),
		[EVENT_IN_REBOOTED]     = TO(HOLDING, NONE),
		[EVENT_IN_OPERATOR_ACK] = TO(HOLDING, ACK),
		[EVENT_IN_WAIVE]        = TO(NOTED,   RELEASE),
		[EVENT_IN_RELOAD]       = TO(HOLDING, NONE),
	},
	[EVENT_ACKED] = {
		[EVENT_IN_NOTE]         = TO(ACKED,   NONE),
		[EVENT_IN_WAIT]         = TO(ACKED,   NONE),
		[EVENT_IN_BEGIN]        = TO(ACKED,   NONE),
		[EVENT_IN_DUE]          = TO(ACKED,   NONE),
		[EVENT_IN_DRAINED]      = TO(ACKED,   NONE),
		[EVENT_IN_ABORTED]      = TO(ACKED,   NONE),
		[EVENT_IN_ACK_OK]       = TO(ACKED,   NONE),
		[EVENT_IN_ACK_FAILED]   = TO(ACKED,   NONE),
		[EVENT_IN_STARTED]      = TO(BEGUN,   NONE),
		[EVENT_IN_REMOVED]      = TO(GONE,    FORGET),
		[EVENT_IN_REBOOTED]     = TO(ACKED,   NONE),
		[EVENT_IN_OPERATOR_ACK] = TO(ACKED,   NONE),
		[EVENT_IN_WAIVE]        = TO(NOTED,   RELEASE),
		[EVENT_IN_RELOAD]       = TO(ACKED,   NONE),
	},
	[EVENT_BEGUN] = {
		[EVENT_IN_NOTE]         = TO(BEGUN,   NONE),
		[EVENT_IN_WAIT]         = TO(BEGUN,   NONE),
		[EVENT_IN_BEGIN]        = TO(BEGUN,   NONE),
		[EVENT_IN_DUE]          = TO(BEGUN,   NONE),
		[EVENT_IN_DRAINED]      = TO(BEGUN,   NONE),
		[EVENT_IN_ABORTED]      = TO(BEGUN,   NONE),
		[EVENT_IN_ACK_OK]       = TO(BEGUN,   NONE),
		[EVENT_IN_ACK_FAILED]   = TO(BEGUN,   NONE),
		[EVENT_IN_STARTED]      = TO(BEGUN,   NONE),
		[EVENT_IN_REMOVED]      = TO(GONE,    FORGET),
		[EVENT_IN_REBOOTED]     = TO(NOTED,   RELEASE),
		[EVENT_IN_OPERATOR_ACK] = TO(BEGUN,   SAY_STARTED),
		[EVENT_IN_WAIVE]        = TO(NOTED,   RELEASE),
		[EVENT_IN_RELOAD]       = TO(BEGUN,   NONE),
	},
};
/* clang-format on */

struct event_cell event_machine(enum event_state s, enum event_input in)
{
	return table[s][in];
}

bool event_state_holds(enum event_state s)
{
	return s == EVENT_HOLDING || s == EVENT_ACKED || s == EVENT_BEGUN;
}
