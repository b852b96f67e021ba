/*
 * The host machine (settings.md 2.1): owns what is done to the VM. A total table of data. Cells of 2.1 that
 * say "after the last", "after 3", "at 0" are two inputs here: the action of the first one raises the second.
 */
#pragma once

enum host_state { HOST_SERVING, HOST_DRAINING, HOST_DRAINED, HOST_RESTORING, HOST_DEGRADED, _HOST_STATES };

enum host_input {
	/* the columns of 2.1 */
	HOST_IN_HOLD,	     /* the first hold, another one, or an earlier deadline */
	HOST_IN_RELEASE,     /* the last hold is gone */
	HOST_IN_STEP_OK,
	HOST_IN_STEP_FAILED,
	HOST_IN_BUDGET,	     /* time is shorter than the running step was told */
	HOST_IN_BOOTED_HELD, /* boot id changed, holds are left */
	HOST_IN_BOOTED_FREE, /* boot id changed, none is left */
	HOST_IN_RESUMED,     /* our process began anew in the same boot */
	HOST_IN_RETRY,
	/* raised by actions */
	HOST_IN_DONE,	   /* no step left to do, or to undo */
	HOST_IN_ABORT,	   /* a step failed whose onFailure is abort */
	HOST_IN_EXHAUSTED, /* draining: no time left; restoring: three times in vain */
	HOST_IN_AGAIN,	   /* a new hold, and the last drain was aborted */
	HOST_IN_FORCE,	   /* operator: drop the ledger, raise the probe */
	_HOST_INPUTS
};

enum host_action {
	HOST_ACT_NONE,
	HOST_ACT_PLAN,	      /* plan, snapshot, begin at step 1 */
	HOST_ACT_REBUDGET,    /* shares anew; shorten what runs, skip waits that no longer fit */
	HOST_ACT_NEXT,	      /* next step, or raise DONE */
	HOST_ACT_STEP_FAILED, /* retry, continue, finish (DONE) or ABORT */
	HOST_ACT_DRAINED,     /* result clean (or what it was): tell the events */
	HOST_ACT_ABORTED,     /* result aborted: tell the events */
	HOST_ACT_INCOMPLETE,  /* stop what runs; result incomplete: tell the events */
	HOST_ACT_TELL_HOLD,   /* tell the new hold: drained; was aborted: raise AGAIN */
	HOST_ACT_GO_ON,	      /* from the step that aborted */
	HOST_ACT_UNDO,	      /* stop what runs, undo in reverse */
	HOST_ACT_REDRAIN,     /* stop what runs, keep the snapshot, begin at step 1 */
	HOST_ACT_REDRAIN_ADD, /* the same, with what is active now added to the snapshot */
	HOST_ACT_REDRAIN_BOOTED, /* nothing runs any more: begin at step 1, ledger kept */
	HOST_ACT_UNDO_BOOTED, /* nothing runs any more: undo */
	HOST_ACT_NEXT_UNDO,   /* next undo, then health, then the probe, or raise DONE */
	HOST_ACT_UNDO_FAILED, /* the others first; three times: raise EXHAUSTED */
	HOST_ACT_FORGET,      /* serving: forget plan, ledger and snapshot */
	HOST_ACT_DEGRADE,     /* probe stays down; try again later */
	HOST_ACT_ATTACH,      /* to what runs, or begin it again */
	HOST_ACT_PUT_BACK,    /* probe, table, target */
	HOST_ACT_RETRY_UNDO,
	HOST_ACT_FORCE,	      /* stop what runs, drop the ledger, raise the probe */
	_HOST_ACTIONS
};

struct host_cell {
	unsigned char next;   /* enum host_state */
	unsigned char action; /* enum host_action */
};

struct host_cell host_machine(enum host_state s, enum host_input in);

/* NULL-terminated, indexed by state; also the record's words. */
extern const char *const host_state_names[];
