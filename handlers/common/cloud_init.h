/*
 * What cloud-init has done, from its files (user-data.md B): nobody may work against it. Its units cannot be waited for
 * with After=: that ends in ordering cycles and deadlocks.
 */
#pragma once

#include <stdbool.h>

#include "agent/codec/digest.h"

struct paths;

enum cloud_init_stage {
	CLOUD_INIT_ABSENT,  /* not installed, or switched off */
	CLOUD_INIT_UNKNOWN, /* installed, but nothing says that it runs at this boot */
	CLOUD_INIT_RUNNING,
	CLOUD_INIT_FINISHED, /* its final stage is over */
};

enum cloud_init_stage cloud_init_look(const struct paths *p);
/* Whether this is its instance's first boot; only after its final stage. */
bool cloud_init_first_boot(const struct paths *p);
/* SHA-256 of the user data it has found at this boot. False: unknown. */
bool cloud_init_user_data(const struct paths *p, char ret[static SHA256_HEX_MAX]);
