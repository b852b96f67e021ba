/* Which scripts the machine's owner lets run. */
#include "agent/core/script_policy.h"

#include <errno.h>
#include <stddef.h>

#include "agent/base/limits.h"
#include "agent/base/str.h"

static const struct jd_type text = { .kind = JD_TEXT, .max = LIMIT_POLICY };
static const struct jd_type texts = { .kind = JD_LIST, .max = LIMIT_POLICY_ENTRIES, .element = &text };
static const struct jd_type flag = { .kind = JD_BOOLEAN };

/* The peer's own reader does not care for case; both spellings are in use. */
/* clang-format off */
static const struct jd_field fields[] = {
	{ "allowedScripts",          &texts, offsetof(struct script_policy, scripts) },
	{ "allowedCommandToExecute", &texts, offsetof(struct script_policy, commands) },
	{ "requireSigning",          &flag,  offsetof(struct script_policy, require_signing) },
	{ "fileRootCertCA",          &text,  offsetof(struct script_policy, root_certificate) },
	{ NULL },
};
static const struct jd_field capital_fields[] = {
	{ "AllowedScripts",          &texts, offsetof(struct script_policy, scripts) },
	{ "AllowedCommandToExecute", &texts, offsetof(struct script_policy, commands) },
	{ "RequireSigning",          &flag,  offsetof(struct script_policy, require_signing) },
	{ "FileRootCertCA",          &text,  offsetof(struct script_policy, root_certificate) },
	{ NULL },
};
/* clang-format on */

const struct jd_type script_policy_type = { .kind = JD_OBJECT, .fields = fields, .size = sizeof(struct script_policy) };
static const struct jd_type capital_type = { .kind = JD_OBJECT,
					     .fields = capital_fields,
					     .size = sizeof(struct script_policy) };

int script_policy_decode(const char *bytes, size_t len, const char *file, struct script_policy *ret, struct error *err)
{
	const struct jd_options o = { .subject = file,
				      .unknown = JD_UNKNOWN_ERROR,
				      .max_bytes = LIMIT_POLICY,
				      .max_depth = LIMIT_SETTINGS_DEPTH,
				      .max_values = LIMIT_SETTINGS_VALUES };

	return jd_decode(bytes, len, &capital_type, &o, ret, NULL) < 0
		       ? jd_decode(bytes, len, &script_policy_type, &o, ret, err)
		       : 0;
}

int script_policy_check(const struct script_policy *p, const char *command, struct error *err)
{
	char *const *allowed = p->commands.items;

	if (p->require_signing)
		return error_set(
			err, ERROR_USER, -EKEYREJECTED,
			"the policy of this machine requires signed scripts, and signatures cannot be verified; nothing is run");
	if (!command || !p->commands.n)
		return 0;
	for (size_t i = 0; i < p->commands.n; i++)
		if (str_equal(allowed[i], command))
			return 0;
	return error_set(
		err, ERROR_USER, -EKEYREJECTED,
		"the policy of this machine does not allow this command: add its text to allowedCommandToExecute of the policy");
}
