/*
 * What to do about the scripts of a goal state: pure. From the settings, the record of former runs and the key of the
 * goal state comes, for each script, whether it runs, is skipped, or must be told as interrupted.
 */
#pragma once

#include <stdbool.h>

#include "agent/base/error.h"
#include "agent/codec/json.h"
#include "agent/core/settings.h"

enum script_state {
	SCRIPT_PENDING,
	SCRIPT_RUNNING,
	SCRIPT_DONE,	 /* ended well, or started if asynchronous */
	SCRIPT_FAILED,
	SCRIPT_NOT_RUN,	 /* an earlier one failed */
};

/* The durable memory of one script. */
struct script_run {
	char *name;
	char *key;	/* goal-state key under which it last began */
	char *content;	/* SHA-256 of what it is (command, script, arguments, files) */
	char *boot_id;	/* of the last begin */
	char *job;	/* id of the last job */
	int state;
	int64_t attempts;
	int64_t code;
	char *message; /* the sentence of the last result */
	char *output;  /* "[stdout]…[stderr]…" tails */
};

enum script_action { SCRIPT_RUN, SCRIPT_ATTACH, SCRIPT_KEEP, SCRIPT_SKIP };

/* What this script needs now. `run` NULL: never seen. `interrupted`: the job of `run` is gone without a result. */
enum script_action script_decide(const struct script_settings *s, const struct script_run *run, const char *key,
				 const char *content, const char *boot_id);
_nodiscard_ int script_content_hash(const struct settings *s, const struct script_settings *script, char ret[static 65],
				    struct error *err);
