/* Metrics of certificates and secrets, for who watches many VMs. */
#include "agent/core/metrics.h"
#include "handlers/key_refresh/item.h"

/* The status tells why one could not be, and that it is a problem. */
void measure_install(const struct item *i, const char *result)
{
	metrics_count(i->h->host->metrics, METRIC_CERTIFICATE_INSTALLS, i->name, result);
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
