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

static int match_unit(sd_journal *j, const char *field, const char *unit)
{
	char match[256];

	if ((size_t)snprintf(match, sizeof(match), "%s=%s", field, unit) >= sizeof(match))
		return -EINVAL;
	return sd_journal_add_match(j, match, 0);
}

static void append_field(sd_journal *j, const char *name, struct buf *out)
{
	size_t skip = strlen(name) + 1, len;
	const void *data;

	if (sd_journal_get_data(j, name, &data, &len) >= 0 && len > skip)
		(void)buf_append(out, (const char *)data + skip, len - skip);
}

int journal_tail(const char *unit, size_t lines, struct buf *out)
{
	_cleanup_(sd_journal_closep) sd_journal *j = NULL;
	size_t n = 0;

	if (sd_journal_open(&j, SD_JOURNAL_LOCAL_ONLY | SD_JOURNAL_SYSTEM) < 0 || match_unit(j, "_SYSTEMD_UNIT", unit) < 0 ||
	    sd_journal_add_disjunction(j) < 0 || match_unit(j, "UNIT", unit) < 0 || sd_journal_seek_tail(j) < 0 ||
	    sd_journal_previous_skip(j, lines) <= 0)
		return -ENOENT;
	do {
		uint64_t when = 0;

		(void)sd_journal_get_realtime_usec(j, &when);
		(void)buf_printf(out, "%llu.%06llu ", (unsigned long long)(when / 1000000), (unsigned long long)(when % 1000000));
		append_field(j, "PRIORITY", out);
		(void)buf_putc(out, ' ');
		append_field(j, "MESSAGE", out);
		(void)buf_putc(out, '\n');
	} while (++n < lines && sd_journal_next(j) > 0);
	return 0;
}
