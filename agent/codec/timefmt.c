/* Times as text, in the proleptic Gregorian calendar and UTC; nothing here depends on locale or time zone. */
#include "agent/codec/timefmt.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

#include "agent/base/str.h"

#define DAYS_PER_ERA 146097 /* 400 years */

struct civil {
	int64_t year;
	unsigned month, day, hour, minute, second, usec;
};

/* Days since 1970-01-01. The year begins in March, so that the leap day is its last. */
static int64_t days_of(int64_t year, unsigned month, unsigned day)
{
	int64_t y = year - (month <= 2);
	int64_t era = y / 400; /* never negative here */
	int64_t of_era = y - era * 400;
	int64_t of_year = (153 * ((int64_t)month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

	return era * DAYS_PER_ERA + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static struct civil civil_of(usec_t wall)
{
	uint64_t seconds = wall / USEC_PER_SEC;
	uint64_t days = seconds / 86400 + 719468;
	uint64_t era = days / DAYS_PER_ERA;
	uint64_t of_era = days % DAYS_PER_ERA;
	uint64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	uint64_t of_year = of_era - (365 * year + year / 4 - year / 100);
	uint64_t month = (5 * of_year + 2) / 153;

	return (struct civil){
		.year = (int64_t)(era * 400 + year + (month >= 10)),
		.month = (unsigned)(month < 10 ? month + 3 : month - 9),
		.day = (unsigned)(of_year - (153 * month + 2) / 5 + 1),
		.hour = (unsigned)(seconds / 3600 % 24),
		.minute = (unsigned)(seconds / 60 % 60),
		.second = (unsigned)(seconds % 60),
		.usec = (unsigned)(wall % USEC_PER_SEC),
	};
}

static unsigned days_in(int64_t year, unsigned month)
{
	bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

	if (month == 2)
		return leap ? 29 : 28;
	return month == 4 || month == 6 || month == 9 || month == 11 ? 30 : 31;
}

/* A leap second counts as the first second of the next minute. */
static bool wall_of(const struct civil *c, int64_t offset_seconds, usec_t *ret)
{
	int64_t s;

	if (c->year < 1970 || c->year > 9999 || c->month < 1 || c->month > 12 || c->day < 1 ||
	    c->day > days_in(c->year, c->month) || c->hour > 23 || c->minute > 59 || c->second > 60)
		return false;
	s = days_of(c->year, c->month, c->day) * 86400 + c->hour * 3600 + c->minute * 60 + c->second - offset_seconds;
	if (s < 0)
		return false;
	*ret = (usec_t)s * USEC_PER_SEC + c->usec;
	return true;
}

/* The readers below move *p on and return false when the text is not what they read. */

static bool digits(const char **p, unsigned n, unsigned *ret)
{
	unsigned v = 0;

	for (unsigned i = 0; i < n; i++, (*p)++) {
		if (**p < '0' || **p > '9')
			return false;
		v = v * 10 + (unsigned)(**p - '0');
	}
	*ret = v;
	return true;
}

static bool literal(const char **p, const char *text)
{
	for (; *text; text++, (*p)++)
		if (**p != *text)
			return false;
	return true;
}

static bool clock_time(const char **p, struct civil *c)
{
	return digits(p, 2, &c->hour) && literal(p, ":") && digits(p, 2, &c->minute) && literal(p, ":") &&
	       digits(p, 2, &c->second);
}

static const char month_names[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
				      "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

static bool month_name(const char **p, unsigned *ret)
{
	for (unsigned i = 0; i < ARRAY_SIZE(month_names); i++)
		if (str_starts(*p, month_names[i])) {
			*p += 3;
			*ret = i + 1;
			return true;
		}
	return false;
}

static bool weekday(const char **p)
{
	for (int i = 0; i < 3; i++, (*p)++)
		if ((**p < 'A' || **p > 'Z') && (**p < 'a' || **p > 'z'))
			return false;
	return literal(p, ", ");
}

static bool rfc1123(const char *p, struct civil *c)
{
	unsigned year;

	if (!weekday(&p) || !digits(&p, 2, &c->day) || !literal(&p, " ") || !month_name(&p, &c->month) ||
	    !literal(&p, " ") || !digits(&p, 4, &year) || !literal(&p, " ") || !clock_time(&p, c) ||
	    !literal(&p, " GMT"))
		return false;
	c->year = year;
	return *p == '\0';
}

/* Any number of digits; what is finer than a microsecond is dropped. */
static bool fraction(const char **p, unsigned *ret_usec)
{
	unsigned v = 0, n = 0;

	if (**p != '.')
		return true;
	for (++*p; **p >= '0' && **p <= '9'; ++*p, n++)
		if (n < 6)
			v = v * 10 + (unsigned)(**p - '0');
	for (unsigned i = n; i < 6; i++)
		v *= 10;
	*ret_usec = v;
	return n > 0;
}

static bool offset(const char **p, int64_t *ret_seconds)
{
	unsigned hours, minutes;
	bool west = **p == '-';

	if (**p == '\0')
		return true;
	if (**p == 'Z') {
		++*p;
		return true;
	}
	if (**p != '+' && **p != '-')
		return false;
	++*p;
	if (!digits(p, 2, &hours) || !literal(p, ":") || !digits(p, 2, &minutes) || hours > 23 || minutes > 59)
		return false;
	*ret_seconds = ((int64_t)hours * 3600 + minutes * 60) * (west ? -1 : 1);
	return true;
}

static bool iso8601(const char *p, struct civil *c, int64_t *ret_offset)
{
	unsigned year;

	if (!digits(&p, 4, &year) || !literal(&p, "-") || !digits(&p, 2, &c->month) || !literal(&p, "-") ||
	    !digits(&p, 2, &c->day) || (*p != 'T' && *p != ' '))
		return false;
	p++;
	c->year = year;
	return clock_time(&p, c) && fraction(&p, &c->usec) && offset(&p, ret_offset) && *p == '\0';
}

int timefmt_parse(const char *text, usec_t *ret_wall, struct error *err)
{
	struct civil c = {0};
	int64_t from_utc = 0;

	if ((rfc1123(text, &c) || iso8601(text, &c, &from_utc)) && wall_of(&c, from_utc, ret_wall))
		return 0;
	return error_set(err, ERROR_PLATFORM, -EINVAL, "\"%.64s\" is not a time", text);
}

const char *timefmt_utc(usec_t wall, char out[static TIMEFMT_MAX])
{
	struct civil c = civil_of(wall);

	(void)snprintf(out, TIMEFMT_MAX, "%04" PRId64 "-%02u-%02uT%02u:%02u:%02uZ", c.year, c.month, c.day, c.hour,
		       c.minute, c.second);
	return out;
}

const char *timefmt_utc_usec(usec_t wall, char out[static TIMEFMT_MAX])
{
	struct civil c = civil_of(wall);

	(void)snprintf(out, TIMEFMT_MAX, "%04" PRId64 "-%02u-%02uT%02u:%02u:%02u.%06uZ", c.year, c.month, c.day, c.hour,
		       c.minute, c.second, c.usec);
	return out;
}

const char *timefmt_http(usec_t wall, char out[static TIMEFMT_MAX])
{
	static const char days[][4] = {"Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"}; /* 1970 began on a Thursday */
	struct civil c = civil_of(wall);

	(void)snprintf(out, TIMEFMT_MAX, "%s, %02u %s %04" PRId64 " %02u:%02u:%02u GMT", days[wall / USEC_PER_DAY % 7],
		       c.day, month_names[c.month - 1], c.year, c.hour, c.minute, c.second);
	return out;
}

const char *timefmt_clock(usec_t wall, char out[static TIMEFMT_MAX])
{
	struct civil c = civil_of(wall);

	(void)snprintf(out, TIMEFMT_MAX, "%02u:%02u:%02u", c.hour, c.minute, c.second);
	return out;
}

/* The largest unit that is not zero and the one below it; milliseconds only when there is nothing larger. */
const char *timefmt_span(usec_t span, char out[static TIMEFMT_MAX])
{
	static const struct {
		usec_t usec;
		const char *name;
	} units[] = {
		{USEC_PER_DAY, "d"},
		{USEC_PER_HOUR, "h"},
		{USEC_PER_MINUTE, "min"},
		{USEC_PER_SEC, "s"},
	};

	if (span == USEC_INFINITY) {
		(void)snprintf(out, TIMEFMT_MAX, "forever");
		return out;
	}
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		unsigned n = (unsigned)(span / units[i].usec);
		unsigned rest = i + 1 < ARRAY_SIZE(units) ? (unsigned)(span % units[i].usec / units[i + 1].usec) : 0;

		if (!n)
			continue;
		if (rest)
			(void)snprintf(out, TIMEFMT_MAX, "%u %s %u %s", n, units[i].name, rest, units[i + 1].name);
		else
			(void)snprintf(out, TIMEFMT_MAX, "%u %s", n, units[i].name);
		return out;
	}
	(void)snprintf(out, TIMEFMT_MAX, "%" PRIu64 " ms", span / USEC_PER_MSEC);
	return out;
}
