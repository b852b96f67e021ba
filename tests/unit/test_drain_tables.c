/* Every cell of both machines, written down a second time as settings.md 2.1 and 2.2 have them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/macros.h"
#include "agent/core/event_machine.h"
#include "agent/core/host_machine.h"

/* What is not here stays where it is and does nothing. */
static const struct {
	enum host_state from;
	enum host_input in;
	enum host_state to;
	enum host_action action;
} host_cells[] = {
	{ HOST_SERVING, HOST_IN_HOLD, HOST_DRAINING, HOST_ACT_PLAN },
	{ HOST_SERVING, HOST_IN_BOOTED_HELD, HOST_DRAINING, HOST_ACT_PLAN },

	{ HOST_DRAINING, HOST_IN_HOLD, HOST_DRAINING, HOST_ACT_REBUDGET },
	{ HOST_DRAINING, HOST_IN_RELEASE, HOST_RESTORING, HOST_ACT_UNDO },
	{ HOST_DRAINING, HOST_IN_STEP_OK, HOST_DRAINING, HOST_ACT_NEXT },
	{ HOST_DRAINING, HOST_IN_STEP_FAILED, HOST_DRAINING, HOST_ACT_STEP_FAILED },
	{ HOST_DRAINING, HOST_IN_BUDGET, HOST_DRAINING, HOST_ACT_REBUDGET },
	{ HOST_DRAINING, HOST_IN_BOOTED_HELD, HOST_DRAINING, HOST_ACT_REDRAIN_BOOTED },
	{ HOST_DRAINING, HOST_IN_BOOTED_FREE, HOST_RESTORING, HOST_ACT_UNDO_BOOTED },
	{ HOST_DRAINING, HOST_IN_RESUMED, HOST_DRAINING, HOST_ACT_ATTACH },
	{ HOST_DRAINING, HOST_IN_DONE, HOST_DRAINED, HOST_ACT_DRAINED },
	{ HOST_DRAINING, HOST_IN_ABORT, HOST_DRAINED, HOST_ACT_ABORTED },
	{ HOST_DRAINING, HOST_IN_EXHAUSTED, HOST_DRAINED, HOST_ACT_INCOMPLETE },

	{ HOST_DRAINED, HOST_IN_HOLD, HOST_DRAINED, HOST_ACT_TELL_HOLD },
	{ HOST_DRAINED, HOST_IN_RELEASE, HOST_RESTORING, HOST_ACT_UNDO },
	{ HOST_DRAINED, HOST_IN_BOOTED_HELD, HOST_DRAINING, HOST_ACT_REDRAIN_BOOTED },
	{ HOST_DRAINED, HOST_IN_BOOTED_FREE, HOST_RESTORING, HOST_ACT_UNDO_BOOTED },
	{ HOST_DRAINED, HOST_IN_RESUMED, HOST_DRAINED, HOST_ACT_PUT_BACK },
	{ HOST_DRAINED, HOST_IN_AGAIN, HOST_DRAINING, HOST_ACT_GO_ON },

	{ HOST_RESTORING, HOST_IN_HOLD, HOST_DRAINING, HOST_ACT_REDRAIN },
	{ HOST_RESTORING, HOST_IN_STEP_OK, HOST_RESTORING, HOST_ACT_NEXT_UNDO },
	{ HOST_RESTORING, HOST_IN_STEP_FAILED, HOST_RESTORING, HOST_ACT_UNDO_FAILED },
	{ HOST_RESTORING, HOST_IN_BOOTED_HELD, HOST_DRAINING, HOST_ACT_REDRAIN_BOOTED },
	{ HOST_RESTORING, HOST_IN_BOOTED_FREE, HOST_RESTORING, HOST_ACT_UNDO_BOOTED },
	{ HOST_RESTORING, HOST_IN_RESUMED, HOST_RESTORING, HOST_ACT_ATTACH },
	{ HOST_RESTORING, HOST_IN_DONE, HOST_SERVING, HOST_ACT_FORGET },
	{ HOST_RESTORING, HOST_IN_EXHAUSTED, HOST_DEGRADED, HOST_ACT_DEGRADE },
	{ HOST_RESTORING, HOST_IN_FORCE, HOST_SERVING, HOST_ACT_FORCE },

	{ HOST_DEGRADED, HOST_IN_HOLD, HOST_DRAINING, HOST_ACT_REDRAIN_ADD },
	{ HOST_DEGRADED, HOST_IN_BOOTED_HELD, HOST_DRAINING, HOST_ACT_REDRAIN_BOOTED },
	{ HOST_DEGRADED, HOST_IN_BOOTED_FREE, HOST_RESTORING, HOST_ACT_UNDO_BOOTED },
	{ HOST_DEGRADED, HOST_IN_RETRY, HOST_RESTORING, HOST_ACT_RETRY_UNDO },
	{ HOST_DEGRADED, HOST_IN_FORCE, HOST_SERVING, HOST_ACT_FORCE },
};

static const struct {
	enum event_state from;
	enum event_input in;
	enum event_state to;
	enum event_action action;
} event_cells[] = {
	{ EVENT_NEW, EVENT_IN_NOTE, EVENT_NOTED, EVENT_ACT_NOTE },
	{ EVENT_NEW, EVENT_IN_WAIT, EVENT_WAITING, EVENT_ACT_NONE },
	{ EVENT_NEW, EVENT_IN_BEGIN, EVENT_BEGUN, EVENT_ACT_HOLD_NO_TIME },
	{ EVENT_NEW, EVENT_IN_REMOVED, EVENT_GONE, EVENT_ACT_FORGET },
	{ EVENT_NEW, EVENT_IN_WAIVE, EVENT_NOTED, EVENT_ACT_NONE },
	{ EVENT_NEW, EVENT_IN_RELOAD, EVENT_NEW, EVENT_ACT_DECIDE },

	{ EVENT_NOTED, EVENT_IN_NOTE, EVENT_NOTED, EVENT_ACT_NOTE },
	{ EVENT_NOTED, EVENT_IN_WAIT, EVENT_WAITING, EVENT_ACT_NONE },
	{ EVENT_NOTED, EVENT_IN_BEGIN, EVENT_BEGUN, EVENT_ACT_HOLD_NO_TIME },
	{ EVENT_NOTED, EVENT_IN_ACK_OK, EVENT_NOTED, EVENT_ACT_RECORD_ACK },
	{ EVENT_NOTED, EVENT_IN_ACK_FAILED, EVENT_NOTED, EVENT_ACT_RETRY_ACK },
	{ EVENT_NOTED, EVENT_IN_REMOVED, EVENT_GONE, EVENT_ACT_FORGET },
	{ EVENT_NOTED, EVENT_IN_OPERATOR_ACK, EVENT_NOTED, EVENT_ACT_ACK },
	{ EVENT_NOTED, EVENT_IN_RELOAD, EVENT_NOTED, EVENT_ACT_DECIDE },

	{ EVENT_WAITING, EVENT_IN_NOTE, EVENT_NOTED, EVENT_ACT_NOTE },
	{ EVENT_WAITING, EVENT_IN_BEGIN, EVENT_BEGUN, EVENT_ACT_HOLD_NO_TIME },
	{ EVENT_WAITING, EVENT_IN_DUE, EVENT_HOLDING, EVENT_ACT_HOLD },
	{ EVENT_WAITING, EVENT_IN_STARTED, EVENT_BEGUN, EVENT_ACT_HOLD_NO_TIME },
	{ EVENT_WAITING, EVENT_IN_REMOVED, EVENT_GONE, EVENT_ACT_FORGET },
	{ EVENT_WAITING, EVENT_IN_OPERATOR_ACK, EVENT_NOTED, EVENT_ACT_ACK },
	{ EVENT_WAITING, EVENT_IN_WAIVE, EVENT_NOTED, EVENT_ACT_NONE },
	{ EVENT_WAITING, EVENT_IN_RELOAD, EVENT_WAITING, EVENT_ACT_DECIDE },

	{ EVENT_HOLDING, EVENT_IN_DRAINED, EVENT_HOLDING, EVENT_ACT_ACK_IF_ALLOWED },
	{ EVENT_HOLDING, EVENT_IN_ABORTED, EVENT_HOLDING, EVENT_ACT_TELL_ABORTED },
	{ EVENT_HOLDING, EVENT_IN_ACK_OK, EVENT_ACKED, EVENT_ACT_RECORD_ACK },
	{ EVENT_HOLDING, EVENT_IN_ACK_FAILED, EVENT_HOLDING, EVENT_ACT_RETRY_ACK },
	{ EVENT_HOLDING, EVENT_IN_STARTED, EVENT_BEGUN, EVENT_ACT_NONE },
	{ EVENT_HOLDING, EVENT_IN_REMOVED, EVENT_GONE, EVENT_ACT_FORGET },
	{ EVENT_HOLDING, EVENT_IN_OPERATOR_ACK, EVENT_HOLDING, EVENT_ACT_ACK },
	{ EVENT_HOLDING, EVENT_IN_WAIVE, EVENT_NOTED, EVENT_ACT_RELEASE },

	{ EVENT_ACKED, EVENT_IN_STARTED, EVENT_BEGUN, EVENT_ACT_NONE },
	{ EVENT_ACKED, EVENT_IN_REMOVED, EVENT_GONE, EVENT_ACT_FORGET },
	{ EVENT_ACKED, EVENT_IN_WAIVE, EVENT_NOTED, EVENT_ACT_RELEASE },

	{ EVENT_BEGUN, EVENT_IN_REMOVED, EVENT_GONE, EVENT_ACT_FORGET },
	{ EVENT_BEGUN, EVENT_IN_REBOOTED, EVENT_NOTED, EVENT_ACT_RELEASE },
	{ EVENT_BEGUN, EVENT_IN_OPERATOR_ACK, EVENT_BEGUN, EVENT_ACT_SAY_STARTED },
	{ EVENT_BEGUN, EVENT_IN_WAIVE, EVENT_NOTED, EVENT_ACT_RELEASE },
};

static void test_host(void **state)
{
	size_t found = 0;

	(void)state;
	for (enum host_state s = 0; s < _HOST_STATES; s++)
		for (enum host_input in = 0; in < _HOST_INPUTS; in++) {
			enum host_state to = s;
			enum host_action action = HOST_ACT_NONE;

			for (size_t i = 0; i < ARRAY_SIZE(host_cells); i++)
				if (host_cells[i].from == s && host_cells[i].in == in) {
					to = host_cells[i].to;
					action = host_cells[i].action;
					found++;
				}
			if (host_machine(s, in).next != to || host_machine(s, in).action != action)
				fail_msg("%s x input %d: state %d action %d, expected %d and %d", host_state_names[s], (int)in,
					 host_machine(s, in).next, host_machine(s, in).action, (int)to, (int)action);
		}
	assert_int_equal(found, ARRAY_SIZE(host_cells));
	assert_null(host_state_names[_HOST_STATES]);
}

static void test_event(void **state)
{
	size_t found = 0;

	(void)state;
	for (enum event_state s = 0; s < _EVENT_STATES; s++)
		for (enum event_input in = 0; in < _EVENT_INPUTS; in++) {
			enum event_state to = s;
			enum event_action action = EVENT_ACT_NONE;

			for (size_t i = 0; i < ARRAY_SIZE(event_cells); i++)
				if (event_cells[i].from == s && event_cells[i].in == in) {
					to = event_cells[i].to;
					action = event_cells[i].action;
					found++;
				}
			if (event_machine(s, in).next != to || event_machine(s, in).action != action)
				fail_msg("%s x input %d: state %d action %d, expected %d and %d", event_state_names[s], (int)in,
					 event_machine(s, in).next, event_machine(s, in).action, (int)to, (int)action);
		}
	assert_int_equal(found, ARRAY_SIZE(event_cells));
	assert_null(event_state_names[_EVENT_STATES]);
}

/* Holds are made by holding, kept by acked and started, and only a waiver, a boot or the removal ends them. */
static void test_holds(void **state)
{
	(void)state;
	for (enum event_state s = 0; s < _EVENT_STATES; s++)
		for (enum event_input in = 0; in < _EVENT_INPUTS; in++) {
			enum event_state next = (enum event_state)event_machine(s, in).next;
			bool ends = in == EVENT_IN_WAIVE || in == EVENT_IN_REBOOTED || in == EVENT_IN_REMOVED;

			if (event_state_holds(s) && !ends)
				assert_true(event_state_holds(next));
			if (in == EVENT_IN_WAIVE || in == EVENT_IN_REMOVED)
				assert_false(event_state_holds(next));
		}
	assert_false(event_state_holds(EVENT_GONE));
}

/* From wherever it is, the host comes home when holds end and undoing goes well, and can always be drained. */
static void test_no_trap(void **state)
{
	(void)state;
	for (enum host_state s = 0; s < _HOST_STATES; s++) {
		enum host_state t = (enum host_state)host_machine(s, HOST_IN_RELEASE).next;

		t = (enum host_state)host_machine(t, HOST_IN_RETRY).next;
		t = (enum host_state)host_machine(t, HOST_IN_DONE).next;
		assert_int_equal(t, HOST_SERVING);
		t = (enum host_state)host_machine(s, HOST_IN_HOLD).next;
		assert_true(t == HOST_DRAINING || t == HOST_DRAINED);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_host), cmocka_unit_test(test_event),
					    cmocka_unit_test(test_holds), cmocka_unit_test(test_no_trap) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
