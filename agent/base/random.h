/* Numbers that spread tries over time. Nothing here is for secrets or for names that must be unique. */
#pragma once

#include <stdint.h>

/* Never waits: 0, so no jitter, while the kernel has no entropy yet (early boot). */
uint32_t random_jitter(void);
