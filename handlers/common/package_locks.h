/* Whether a package manager works right now. */
#pragma once

struct paths;

/* The lock that one holds (its path without our root), or NULL. */
const char *package_locks_held(const struct paths *p);
