/* `evenkeel version`: which program this is, and what it runs on. */
#include <gnu/libc-version.h>
#include <stdio.h>
#include <string.h>

#include "agent/app/arguments.h"
#include "agent/app/verbs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/digest.h"
#include "agent/codec/gzip.h"
#include "agent/codec/json.h"
#include "agent/core/exit_codes.h"
#include "agent/io/http.h"
#include "agent/io/listener.h"
#include "generated/version.h"

#if defined(__x86_64__)
#define ARCHITECTURE "amd64"
#elif defined(__aarch64__)
#define ARCHITECTURE "arm64"
#else
#define ARCHITECTURE "other"
#endif

/* Texts that are ours or a library's own: digits, letters and dots. */
int version_json(struct buf *out)
{
	return buf_printf(out,
			  "{\"version\":\"%s\",\"handler\":\"%s\",\"architecture\":\"%s\",\"compiler\":\"%s\",\"libraries\":{"
			  "\"glibc\":\"%s\",\"json-c\":\"%s\",\"libcurl\":\"%s\",\"libmicrohttpd\":\"%s\",\"openssl\":\"%s\","
			  "\"zlib\":\"%s\"}}\n",
			  EK_VERSION, EK_HANDLER, ARCHITECTURE, __VERSION__, gnu_get_libc_version(), jd_library(), http_library(),
			  listener_library(), digest_library(), gzip_library());
}

int verb_version(int argc, char **argv)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_STATUS_MESSAGE);
	bool json = argc == 2 && str_equal(argv[1], "--json");

	if (argc > 1 && !json)
		return cli_usage("version");
	if (json && version_json(&text) >= 0)
		printf("%s", buf_str(&text));
	else
		printf("evenkeel %s\n", EK_VERSION);
	return fflush(stdout) == 0 ? EXIT_OK : EXIT_FAILED;
}
