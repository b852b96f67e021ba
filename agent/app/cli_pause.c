/* `evenkeel pause`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/app/cli_client.h"
#include "agent/app/daemon_pause.h"
#include "agent/app/verbs.h"
#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/core/exit_codes.h"

#define USAGE	      "pause [--for DURATION] [REASON] | pause --end"
#define LASTS_SECONDS 3600

int verb_pause(int argc, char **argv)
{
	_cleanup_free_ char *argument = NULL;
	const char *reason = NULL;
	uint64_t lasts = LASTS_SECONDS;
	bool timed = false, ends = false;

	for (int i = 1; i < argc; i++) {
		if (str_equal(argv[i], "--for") && i + 1 < argc) {
			if (!cli_duration(argv[++i], &lasts) || lasts == 0)
				return cli_bad_duration(argv[i]);
			timed = true;
		} else if (str_equal(argv[i], "--end")) {
			ends = true;
		} else if (argv[i][0] == '-' || reason) {
			return cli_usage(USAGE);
		} else {
			reason = argv[i];
		}
	}
	if (ends && (timed || reason))
		return cli_usage(USAGE);
	if (lasts > PAUSE_SECONDS_MAX) {
		fprintf(stderr, "evenkeel pause: 24h at most; pause again when that is over\n");
		return EXIT_USAGE;
	}
	argument = ends ? strdup("end") : str_format("%llu %s", (unsigned long long)lasts, reason ? reason : "");
	return argument ? cli_order_alone("pause", "/v1/pause", argument) : EXIT_FAILED;
}
