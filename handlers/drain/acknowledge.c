/* What goes out to others: acknowledgements to the platform, questions to the other VMs of a shared event. */

#include "agent/azure/imds.h"
#include "agent/base/cleanup.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/io/loop.h"
#include "handlers/drain/drain_private.h"
#include "handlers/drain/peers.h"
#include "handlers/drain/watch.h"

static void on_ack(const char *body, size_t len, const struct imds_failure *failure, void *userdata)
{
	struct handler *h = userdata;
	enum ack_outcome outcome = !failure		    ? ACK_OUTCOME_OK
				   : failure->status == 400 ? ACK_OUTCOME_BAD_REQUEST
							    : ACK_OUTCOME_RETRY;
	int r;

	(void)body;
	(void)len;
	if (failure)
		log_for(LOG_LEVEL_WARNING, (.handler = "drain"), "acknowledging: %s", failure->err.msg);
	drain_count_acknowledgement(h, !failure ? "accepted" : outcome == ACK_OUTCOME_BAD_REQUEST ? "refused" : "failed",
				    outcome != ACK_OUTCOME_RETRY);
	imds_call_free(TAKE_PTR(h->ack));
	r = drain_core_ack_result(h->core, h->ack_token, outcome, drain_now(h));
	if (outcome == ACK_OUTCOME_BAD_REQUEST)
		watch_now(h->watch); /* the document is read anew before it is tried once more */
	drain_after_input(h, r, "the acknowledgement's answer");
}

void drain_acknowledge(struct handler *h, const struct drain_action *a)
{
	const char *version = watch_api_version(h->watch);
	struct error e = ERROR_INIT;

	imds_call_free(TAKE_PTR(h->ack));
	h->ack_token = a->token;
	if (!h->ack_since_boot)
		h->ack_since_boot = loop_now_boot(h->host->loop);
	if (!version && h->settings)
		version = h->settings->api_version;
	if (version &&
	    imds_acknowledge(h->host->http, version, (const char *const *)a->ids, on_ack, h, &h->ack, &e) == 0)
		return;
	log_for(LOG_LEVEL_ERROR, (.handler = "drain", .event_id = a->ids[0]), "acknowledging: %s",
		version ? e.msg : "scheduled events are not watched any more");
	/* Answered as a failure in transit: the core tries again at its pace. */
	drain_after_input(h, drain_core_ack_result(h->core, a->token, ACK_OUTCOME_RETRY, drain_now(h)),
			  "an acknowledgement that did not go out");
}

void drain_ask_peers(struct handler *h, const struct drain_action *a)
{
	struct error e = ERROR_INIT;

	h->peers_token = a->token;
	if (!h->settings || str_empty(h->settings->shared_events.peer_url))
		(void)error_set(&e, ERROR_USER, -ENOENT, "the settings name no peerUrl any more");
	else if (peers_ask(h->peers, h->settings->shared_events.peer_url, (const char *const *)a->ids, &e) == 0)
		return;
	log_for(LOG_LEVEL_WARNING, (.handler = "drain", .event_id = a->event_id), "asking the other VMs: %s", e.msg);
	drain_after_input(h, drain_core_peers_result(h->core, a->token, false, drain_now(h)),
			  "a question that did not go out");
}
