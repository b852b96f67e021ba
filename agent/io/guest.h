/* What else goes on in this guest, looked at without disturbing it: cloud-init, and package managers at work. */
#pragma once

#include <stdbool.h>

struct paths;

/* Its final stage is over for this boot, or it is switched off, or not installed. */
bool guest_cloud_init_over(const struct paths *p);

/* The lock that a package manager holds now (a path as it is without our root), or NULL. Takes nothing. */
const char *guest_package_lock(const struct paths *p);
