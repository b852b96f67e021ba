/*
 * The event machine (settings.md 2.2): decides whether one event holds the VM drained and when it is
 * acknowledged. A total table of data: every state answers every input. drain_core.c carries actions out.
 */
#pragma once

#include <stdbool.h>

enum event_state {
	EVENT_NEW,     /* seen this moment, nothing decided */
	EVENT_NOTED,   /* known, holds nothing */
	EVENT_WAITING, /* will hold when it is due */
	EVENT_HOLDING,
	EVENT_ACKED,
	EVENT_BEGUN, /* "started": the platform is at it */
	_EVENT_STATES,
	EVENT_GONE = _EVENT_STATES, /* to be forgotten; has no row */
};

enum event_input {
	/* what the policy says of it, at first sight and when it is asked again */
	EVENT_IN_NOTE,
	EVENT_IN_WAIT,
	EVENT_IN_BEGIN, /* drain, and it has started already */
	/* the columns of 2.2 */
	EVENT_IN_DUE,
	EVENT_IN_DRAINED,
	EVENT_IN_ABORTED,
	EVENT_IN_ACK_OK,
	EVENT_IN_ACK_FAILED,
	EVENT_IN_STARTED,
	EVENT_IN_REMOVED,
	EVENT_IN_REBOOTED, /* given for Reboot and Redeploy only, if restoreWhenRebooted */
	EVENT_IN_OPERATOR_ACK,
	EVENT_IN_WAIVE,
	EVENT_IN_RELOAD,
	_EVENT_INPUTS
};

enum event_action {
	EVENT_ACT_NONE,
	EVENT_ACT_NOTE,		 /* acknowledge at once if the policy says immediately and it is Scheduled */
	EVENT_ACT_HOLD,		 /* is due: the same acknowledgement, then the host's state */
	EVENT_ACT_HOLD_NO_TIME,	 /* has started: a hold with budget 0 */
	EVENT_ACT_ACK_IF_ALLOWED, /* drained: as policy and sharedEvents allow */
	EVENT_ACT_ACK,		 /* an operator said so */
	EVENT_ACT_TELL_ABORTED,
	EVENT_ACT_RECORD_ACK,
	EVENT_ACT_RETRY_ACK,
	EVENT_ACT_DECIDE, /* ask the policy again */
	EVENT_ACT_RELEASE, /* the hold ends, the event stays known */
	EVENT_ACT_FORGET,
	EVENT_ACT_SAY_STARTED,
	_EVENT_ACTIONS
};

struct event_cell {
	unsigned char next;   /* enum event_state */
	unsigned char action; /* enum event_action */
};

struct event_cell event_machine(enum event_state s, enum event_input in);

/* The set of holds is made from this: holding, acked and started events hold the VM drained. */
bool event_state_holds(enum event_state s);

/* NULL-terminated, indexed by state; the record's words. */
extern const char *const event_state_names[];
