/*
 * Vaults that want no requests for a while. What a vault answers to one item (429, mostly with Retry-After) is meant for the
 * whole VM: nobody asks the same vault before that time, then one asks first, and the wait doubles until it answers
 * otherwise. Pure; times are of the boot clock.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/macros.h"
#include "agent/base/time.h"
#include "agent/core/retry.h"

#define KEY_VAULTS_MAX 32 /* that are held at a time; one more is simply asked */

struct key_pace {
	struct key_pace_vault {
		char *host;
		usec_t until;
		struct retry_state retry;
	} vaults[KEY_VAULTS_MAX];
	size_t n;
};

void key_pace_done(struct key_pace *p);

/* The vault of this url has had too many requests; retry_after 0: it does not say for how long. Answers to what was asked
 * before it said so count once. -ENOMEM: it is not held. */
_nodiscard_ int key_pace_refused(struct key_pace *p, const char *url, usec_t retry_after, uint32_t random, usec_t now);
/* It has answered something else. To what was asked before it refused, that means nothing. */
void key_pace_answered(struct key_pace *p, const char *url, usec_t now);
/* Since when it may be asked; 0: at once. */
usec_t key_pace_until(const struct key_pace *p, const char *url, usec_t now);
/* It has refused the last time: one request at a time, until it answers. */
bool key_pace_careful(const struct key_pace *p, const char *url);
/* Whether two urls lead to the same vault. */
bool key_pace_same(const char *url, const char *other);
