/* Between settings_load.c, which chooses among the doors, and settings_source.c, which reads one document of one door. */
#pragma once

#include <stdbool.h>

#include "agent/core/settings_tables.h"

/* What each door has, before one is chosen. */
struct settings_candidates {
	void *section[_DOOR_MAX][_SECTION_MAX];
	const char *subject[_DOOR_MAX][_SECTION_MAX];
	bool drop_in_script[_DOOR_MAX];
	bool drop_in_vault[_DOOR_MAX];
};

/* Adds the sections of one source to the candidates, and its secrets to the settings. 0, -EBADMSG, -E2BIG or -EINVAL
 * (told), -ENOMEM. */
_nodiscard_ int settings_load_source(struct settings_loader *l, const struct settings_source *source,
				     struct settings_candidates *c);
