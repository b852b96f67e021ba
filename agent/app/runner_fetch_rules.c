/* The numbers of downloads: when another attempt is made, and the codes that Custom Script has for an end. */
#include "agent/app/runner_fetch_rules.h"

#include "agent/app/runner_fetch.h"
#include "agent/core/exit_codes.h"
#include "agent/core/retry.h"

/* clang-format off */
/* As Custom Script does: seven attempts, 3, 6, 12 … s between them; what cannot mend itself is not tried again. Where the
 * server was there and only the line was cut, the first wait is shorter. */
static const struct retry_rule rules[] = {
	{ 0,   0,   RETRY_AFTER, 3 * USEC_PER_SEC, 96 * USEC_PER_SEC, 0 },
	{ FETCH_BROKEN_OFF, FETCH_BROKEN_OFF, RETRY_AFTER, 1 * USEC_PER_SEC, 96 * USEC_PER_SEC, 0 },
	{ 408, 408, RETRY_AFTER, 3 * USEC_PER_SEC, 96 * USEC_PER_SEC, 0 },
	{ 429, 429, RETRY_AFTER, 3 * USEC_PER_SEC, 96 * USEC_PER_SEC, 0 },
	{ 500, 500, RETRY_AFTER, 3 * USEC_PER_SEC, 96 * USEC_PER_SEC, 0 },
	{ 502, 504, RETRY_AFTER, 3 * USEC_PER_SEC, 96 * USEC_PER_SEC, 0 },
	{ .from = -1 },
};
/* clang-format on */
static const struct retry_policy policy = { "download", rules, 10, 2 * USEC_PER_MINUTE };
const struct fetch_limits fetch_limits_default = { .connect_usec = 30 * USEC_PER_SEC,
						   .stall_usec = 60 * USEC_PER_SEC,
						   .total_usec = 6 * USEC_PER_HOUR,
						   .attempts = 7,
						   .policy = &policy };

int fetch_code(enum blob_right right, long status)
{
	bool identity = right == BLOB_IDENTITY;

	switch (status) {
	case 400:
		return identity ? CODE_IDENTITY_FAILED : CODE_STORAGE_BAD_REQUEST;
	case 401:
		return identity ? CODE_IDENTITY_DENIED : CODE_ACCESS_DENIED;
	case 403:
		return identity ? CODE_IDENTITY_DENIED : CODE_DOWNLOAD_FAILED;
	case 404:
		return identity ? CODE_IDENTITY_NOT_FOUND : CODE_NOT_FOUND;
	case 500:
		return identity ? CODE_IMDS_ERROR : CODE_INTERNAL;
	default:
		return identity ? CODE_IDENTITY_FAILED : CODE_DOWNLOAD_FAILED;
	}
}
