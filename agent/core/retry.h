/*
 * When to try again: one policy type, tables of the platform's rules per status code, pure arithmetic. Waits are
 * exact powers with jitter from a number the caller brings, so tests can pin them.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/base/time.h"

enum retry_verdict { RETRY_NO, RETRY_AFTER };

struct retry_rule {
	int from, to;		/* HTTP status range; 0..0: no answer (network error, timeout). 2xx: an answer we cannot use */
	enum retry_verdict verdict;
	usec_t first, most;	/* first wait, doubled each time up to `most` */
	usec_t total;		/* give up after so long under this rule, after a last try at its end; 0: never by time */
};

struct retry_policy {
	const char *name;
	const struct retry_rule *rules; /* ends with from < 0; the first match counts; none: RETRY_NO */
	unsigned jitter_percent; /* around a wait of ours; a Retry-After is only ever lengthened by it */
	usec_t retry_after_most; /* Retry-After is honoured up to here */
};

/* IMDS instance data and user data; managed-identity tokens; Key Vault; Scheduled Events polls; a
 * daemon's long-lived retries of its own work; notices to webhooks. (user-data.md A, key-vault.md B.4 and C.1, scheduled-events.md) */
extern const struct retry_policy retry_imds, retry_identity, retry_vault, retry_events, retry_work, retry_webhook;

struct retry_state {
	unsigned attempts; /* failed ones in a row */
	usec_t since;	   /* boot time of the first failure */
	/* Which rule matched last, and since when it did without another in between: what `total` is counted from. */
	const struct retry_rule *rule;
	usec_t rule_since;
};

/* Notes a failure with `status` (0: no answer) and a Retry-After of `retry_after` (0: none). RETRY_AFTER sets *ret_wait. */
enum retry_verdict retry_failed(const struct retry_policy *p, struct retry_state *s, int status, usec_t retry_after,
				uint32_t random, usec_t now_boot, usec_t *ret_wait);
void retry_succeeded(struct retry_state *s);

/* interval ± percent, from a random number. */
usec_t retry_jitter(usec_t interval, unsigned percent, uint32_t random);
/* "120" or an HTTP date; 0 when unreadable. */
usec_t retry_after_parse(const char *value, usec_t now_wall);
