/* Any bytes as the machine's policy: it is understood as a whole, or it lets nothing run. */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "agent/base/limits.h"
#include "agent/core/script_policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct script_policy p = { 0 };
	struct error err = ERROR_INIT;
	int r = script_policy_decode((const char *)data, size, "policy", &p, &err);

	if (r < 0) {
		assert(err.cls != ERROR_NONE && *err.msg && !p.scripts.items && !p.commands.items);
		return 0;
	}
	assert(p.scripts.n <= LIMIT_POLICY_ENTRIES && p.commands.n <= LIMIT_POLICY_ENTRIES);
	r = script_policy_check(&p, "a command that no list names", &err);
	assert(r == 0 || r == -EKEYREJECTED);
	assert(r == 0 || p.require_signing || p.commands.n);
	if (p.commands.n && !p.require_signing)
		assert(script_policy_check(&p, ((char **)p.commands.items)[0], &err) == 0);
	jd_free(&script_policy_type, &p);
	return 0;
}
