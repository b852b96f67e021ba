/* userdata_probe FILE…: the parts of each file as one line of JSON, or {"error": …}. For tests and the bench. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/fs.h"
#include "agent/core/userdata_parts.h"

static int probe(const char *path)
{
	_cleanup_buf_ struct buf data = BUF_INIT(16UL * 1024 * 1024), out = BUF_INIT(16UL * 1024 * 1024);
	struct userdata_parts p = { 0 };
	struct error e = ERROR_INIT;

	if (fs_read(path, data.max, &data, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		return EXIT_FAILURE;
	}
	if (userdata_parts_make(buf_str(&data), data.len, "", &p, &e) < 0) {
		(void)buf_puts(&out, "{\"error\":");
		(void)jd_quote(&out, e.msg, strlen(e.msg));
		(void)buf_puts(&out, "}");
	} else if (jd_encode(&userdata_parts_type, &p, false, &out) < 0) {
		return EXIT_FAILURE;
	}
	puts(buf_str(&out));
	userdata_parts_done(&p);
	return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (probe(argv[i]) != EXIT_SUCCESS)
			return EXIT_FAILURE;
	return EXIT_SUCCESS;
}
