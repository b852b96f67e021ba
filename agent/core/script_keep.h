/*
 * Runs of scripts that are over, as their files tell, and which of them are to go: pure. settings.md 1.2 "keepRuns": so many
 * for each script, none longer than 30 days, all together no more than 1 GiB.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/time.h"
#include "agent/core/job.h"

/* One run. Texts are the owner's. */
struct script_kept {
	char *id;	/* of its job */
	char *name;	/* of the script */
	char *sequence; /* of its goal state, or NULL */
	int64_t attempt;
	bool by_hand;	/* `evenkeel scripts run` */
	bool helper;	/* no script but a job that one asked for (a reboot): nobody wants to see it afterwards */
	bool begun, ended;
	bool lost;	/* begun under another boot, and there is no result */
	bool unwiped;	/* a reboot came before its files, which were to be removed, could be */
	struct job_result result; /* when it has ended */
	usec_t begun_wall, ended_wall; /* of one that never began, `ended_wall` says when it was made */
	uint64_t bytes;

	/* For script_keep_plan(). */
	bool in_use; /* somebody watches it */
	bool wanted; /* a script that the settings have: its newest result stays however old it is */
	bool remove; /* the answer */
};

struct script_keep_limits {
	size_t runs; /* that have ended, for each script, at least 1 */
	usec_t age;
	uint64_t bytes;
};

/*
 * Sets `remove`. What runs or is in use stays. The newest result of a script stays, too, until it is older than the age, and
 * for ever if the script is wanted. Beyond that, oldest first: more runs of one script than its number, what is older than
 * the age, and what makes all together larger than allowed; and in any case what holds files that were to be removed. Also
 * sorts: newest first.
 */
void script_keep_plan(struct script_kept *items, size_t n, const struct script_keep_limits *limits, usec_t now_wall);
