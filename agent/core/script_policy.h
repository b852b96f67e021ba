/*
 * What the machine's owner lets custom scripts be: the runtime policy that the Azure agent hands to the extension
 * (custom-script.md 1, from extensionPolicies.extensions.NAME.runtimePolicy of /etc/waagent_policy.json), with the members
 * that Custom Script reads. Pure. A policy that is not understood lets nothing run.
 */
#pragma once

#include <stdbool.h>

#include "agent/base/error.h"
#include "agent/codec/json.h"

struct script_policy {
	/* Each of char *; empty: not limited. */
	struct jd_list scripts;	 /* SHA-256 of every downloaded file and of every inline script, after conversion */
	struct jd_list commands; /* commandToExecute, to the letter */
	bool require_signing;
	char *root_certificate;
};
extern const struct jd_type script_policy_type; /* released with jd_free() */

_nodiscard_ int script_policy_decode(const char *text, size_t len, const char *file, struct script_policy *ret,
				     struct error *err);
/* 0, or -EKEYREJECTED with a sentence. `command` NULL: an inline script, whose bytes the runner checks. */
_nodiscard_ int script_policy_check(const struct script_policy *p, const char *command, struct error *err);
