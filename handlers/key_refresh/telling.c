/* What others are told of certificates and secrets: notices to webhooks, and measures for who watches many VMs. */
#include "agent/base/buf.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/core/metrics.h"
#include "agent/io/loop.h"
#include "handlers/key_refresh/item.h"

/* The status tells why one could not be, and that it is a problem. */
void telling_count(const struct item *i, const char *result)
{
	metrics_count(i->h->host->metrics, METRIC_CERTIFICATE_INSTALLS, i->name, result);
}

void telling_expiry(const struct item *i, int64_t days)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_STATUS_MESSAGE);

	if (days == 0)
		(void)buf_printf(&text, "%s: version %s has expired; renew it in the vault", i->name,
				 i->plan.record.version);
	else
		(void)buf_printf(&text, "%s: version %s expires within %lld %s; renew it in the vault", i->name,
				 i->plan.record.version, (long long)days, days == 1 ? "day" : "days");
	log_for(LOG_LEVEL_WARNING, (.handler = HANDLER, .milestone = true), "%s", buf_str(&text));
	if (buf_ok(&text) >= 0)
		i->h->host->tell(i->h->host, NOTICE_CERTIFICATE, i->name, NULL, buf_str(&text));
}

static double seconds(usec_t wall)
{
	return (double)wall / USEC_PER_SEC;
}

void key_refresh_measure(const struct handler *h, struct metrics *m)
{
	for (size_t k = 0; k < h->n; k++) {
		const struct item *i = h->items[k];

		if (i->plan.record.not_after_usec)
			metrics_put(m, METRIC_CERTIFICATE_NOT_AFTER, seconds((usec_t)i->plan.record.not_after_usec),
				    i->name, NULL);
		if (i->checked_wall)
			metrics_put(m, METRIC_CERTIFICATE_CHECKED, seconds(i->checked_wall), i->name, NULL);
		metrics_put(m, METRIC_CERTIFICATE_PROBLEM, i->plan.problem.msg[0] ? 1 : 0, i->name, NULL);
	}
}
