/* Any bytes as N.settings: what is accepted is consistent, what is not leaves nothing behind. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/azure/goal_state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct goal_settings g = { .absent = false };
	struct error err = ERROR_INIT;

	if (goal_settings_parse((const char *)data, size, "/c/3.settings", &g, &err) < 0) {
		assert(err.code < 0 && err.cls != ERROR_NONE && strstr(err.msg, "/c/3.settings"));
		assert(!g.public_text && !g.protected_blob && !g.thumbprint);
		return 0;
	}
	assert(!g.absent || (!g.public_text && !g.protected_blob));
	assert(!g.public_text || strchr(g.public_text, '{'));
	assert(!g.protected_blob == !g.thumbprint);
	assert(!g.thumbprint || strspn(g.thumbprint, "0123456789ABCDEF") == 40);
	goal_settings_done(&g);
	return 0;
}
