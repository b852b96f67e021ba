/* The newest line of a unit. */
#include "agent/io/journal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-journal.h>



int journal_last_line(const char *unit, struct buf *out)
{
	static const char key[] = "MESSAGE=";
	_cleanup_(sd_journal_closep) sd_journal *j = NULL;
	char match[256];
	const void *data;
	size_t len;

	if ((size_t)snprintf(match, sizeof(match), "_SYSTEMD_UNIT=%s", unit) >= sizeof(match))
		return -EINVAL;
	if (sd_journal_open(&j, SD_JOURNAL_LOCAL_ONLY | SD_JOURNAL_SYSTEM) < 0 || sd_journal_add_match(j, match, 0) < 0 ||
	    sd_journal_seek_tail(j) < 0 || sd_journal_previous(j) <= 0)
		return -ENOENT;
	if (sd_journal_get_data(j, "MESSAGE", &data, &len) < 0 || len < sizeof(key) - 1)
		return -ENOENT;
	return buf_append(out, (const char *)data + sizeof(key) - 1, len - (sizeof(key) - 1));
}
