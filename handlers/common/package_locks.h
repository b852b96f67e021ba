/* Whether a package manager works right now. */
#pragma once

#include <stdbool.h>

struct paths;

bool package_locks_held(const struct paths *p);
