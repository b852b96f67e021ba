/* Key refresh: the sentence of one certificate or secret, with its level and code. */
#include "agent/base/str.h"
#include "agent/codec/timefmt.h"
#include "agent/core/exit_codes.h"
#include "agent/core/key_plan.h"

int64_t key_expiry_days(const struct key_refresh_settings *k, const struct key_record *r, usec_t now_wall)
{
	const int64_t *days = k->expiry_warning_days.items;
	usec_t left = usec_sub((usec_t)r->not_after_usec, now_wall);
	int64_t least = -1;

	if (!r->not_after_usec)
		return -1;
	for (size_t i = 0; i < k->expiry_warning_days.n; i++)
		if (left <= usec_from_seconds((uint64_t)days[i] * 86400) && (least < 0 || days[i] < least))
			least = days[i];
	return least;
}

static int code_of(const struct key_item *i)
{
	switch (i->problem_status) {
	case 401:
	case 403:
		return CODE_IDENTITY_DENIED;
	case 404:
		return CODE_IDENTITY_NOT_FOUND;
	default:
		return i->problem.cls == ERROR_USER	? CODE_BAD_CONFIGURATION
		       : i->problem.cls == ERROR_SYSTEM ? CODE_INTERNAL
							: CODE_IDENTITY_FAILED;
	}
}

static void put_next(const struct key_item *i, usec_t now_boot, struct buf *out)
{
	char wait[TIMEFMT_MAX];

	if (i->next_boot > now_boot)
		(void)buf_printf(out, "; next try in %s", timefmt_span(usec_sub(i->next_boot, now_boot), wait));
	else
		(void)buf_puts(out, "; it is being tried again");
}

static void put_installed(const struct key_record *r, struct buf *out)
{
	char until[TIMEFMT_MAX];

	(void)buf_printf(out, "Version %s", r->version);
	if (!str_empty(r->thumbprint))
		(void)buf_printf(out, ", thumbprint %s", r->thumbprint);
	if (r->not_after_usec)
		(void)buf_printf(out, ", valid until %s", timefmt_utc((usec_t)r->not_after_usec, until));
	if (!str_empty(r->identity))
		(void)buf_printf(out, ", read as %s", r->identity);
}

static void raise_to(struct component *c, enum status_level level)
{
	if (c->level != STATUS_ERROR)
		c->level = level;
}

static void put_expiry(const struct key_item *i, const struct key_refresh_settings *k, usec_t now_wall, struct buf *out,
		       struct component *ret)
{
	usec_t left = usec_sub((usec_t)i->record.not_after_usec, now_wall);
	unsigned long long days = left / USEC_PER_DAY;

	if (left == 0)
		(void)buf_puts(out, "; it has expired: renew it in the vault");
	else if (left < USEC_PER_DAY)
		(void)buf_puts(out, "; it expires within a day: renew it in the vault");
	else if (key_expiry_days(k, &i->record, now_wall) >= 0)
		(void)buf_printf(out, "; it expires in %llu %s: renew it in the vault", days,
				 days == 1 ? "day" : "days");
	else
		return;
	raise_to(ret, left < USEC_PER_DAY ? STATUS_ERROR : STATUS_WARNING);
}

static void describe_installed(const struct key_item *i, const struct key_refresh_settings *k, usec_t now_boot,
			       usec_t now_wall, struct buf *out, struct component *ret)
{
	ret->level = STATUS_SUCCESS;
	ret->duty = DUTY_DONE;
	put_installed(&i->record, out);
	if (i->record.incomplete) {
		(void)buf_puts(
			out,
			"; the chain is incomplete: some clients will not trust it; put the issuers into the vault's "
			"certificate");
		raise_to(ret, STATUS_WARNING);
	}
	if (i->newest_disabled) {
		(void)buf_puts(out, "; the newest version in the vault is disabled: enable it there, or add a new one");
		raise_to(ret, STATUS_WARNING);
	}
	if (i->record.not_after_usec)
		put_expiry(i, k, now_wall, out, ret);
	if (!str_empty(i->record.unreachable)) {
		(void)buf_printf(out, "; %s", i->record.unreachable);
		raise_to(ret, STATUS_WARNING);
	}
	key_activation_describe(&i->record.activation, now_wall, out, ret);
	if (i->problem.msg[0]) {
		(void)buf_printf(out, "; it cannot be refreshed: %s", i->problem.msg);
		put_next(i, now_boot, out);
		raise_to(ret, STATUS_WARNING);
	}
}

static void describe_open(const struct key_item *i, const struct key_refresh_settings *k, usec_t now_boot,
			  usec_t now_wall, struct buf *out, struct component *ret)
{
	bool late = now_boot >= i->deadline_boot;
	char span[TIMEFMT_MAX];

	ret->level = late ? STATUS_ERROR : STATUS_TRANSITIONING;
	ret->duty = late ? DUTY_FAILED : DUTY_OPEN;
	if (late)
		(void)buf_printf(out, "Not installed within %s",
				 timefmt_span(usec_from_seconds((uint64_t)k->initial_sync_timeout_seconds), span));
	else
		(void)buf_puts(out, i->problem.msg[0] ? "Not installed yet" : "Being fetched");
	if (i->problem.msg[0]) {
		(void)buf_printf(out, ": %s", i->problem.msg);
		put_next(i, now_boot, out);
		ret->code = late ? code_of(i) : CODE_NONE;
	}
	if (i->record.version) {
		(void)buf_puts(out, "; as the former settings wanted it, there is: ");
		put_installed(&i->record, out);
		key_activation_describe(&i->record.activation, now_wall, out, ret);
	}
}

void key_describe(const struct key_item *i, const struct key_refresh_settings *k, usec_t now_boot, usec_t now_wall,
		  struct buf *out, struct component *ret)
{
	*ret = (struct component){ .code = CODE_NONE };
	if (key_installed(i))
		describe_installed(i, k, now_boot, now_wall, out, ret);
	else
		describe_open(i, k, now_boot, now_wall, out, ret);
}
