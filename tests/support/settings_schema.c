/* Prints the published JSON Schema of the settings, for tests of its own. */
#include <stdio.h>

#include "agent/base/limits.h"
#include "agent/core/settings.h"

int main(void)
{
	struct buf schema = BUF_INIT(LIMIT_SETTINGS);
	int r = settings_schema(&schema);

	if (r == 0 && fputs(buf_str(&schema), stdout) < 0)
		r = -1;
	buf_done(&schema);
	return r < 0 ? 1 : 0;
}
