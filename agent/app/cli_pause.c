/* `evenkeel pause`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/app/arguments.h"
#include "agent/app/cli_client.h"
#include "agent/app/daemon_pause.h"
#include "agent/app/verbs.h"
#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/core/exit_codes.h"

#define LASTS_SECONDS 3600

int verb_pause(int argc, char **argv)
{
	_cleanup_free_ char *argument = NULL;
	const char *reason = NULL;
	uint64_t lasts = 0; /* not given */
	bool ends = false;
	const struct argument arguments[] = {
		{ "--for", .seconds = &lasts }, { "--end", .flag = &ends }, { .word = &reason }
	};
	int code = arguments_read("pause", arguments, ARRAY_SIZE(arguments), argc, argv);

	if (code != EXIT_OK)
		return code;
	if (ends && (lasts || reason))
		return cli_usage("pause");
	lasts = lasts ? lasts : LASTS_SECONDS;
	if (lasts > PAUSE_SECONDS_MAX) {
		fprintf(stderr, "evenkeel pause: 24h at most; pause again when that is over\n");
		return EXIT_USAGE;
	}
	argument = ends ? strdup("end") : str_format("%llu %s", (unsigned long long)lasts, reason ? reason : "");
	return argument ? cli_order_alone("pause", "/v1/pause", argument) : EXIT_FAILED;
}
