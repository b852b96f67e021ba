/*
 * `waitForConnections`: the kernel is asked for established connections of the ports until few enough are left. The ports
 * of "fromLoadBalancer" are asked for in advance, when settings come into force, and again when they are old; where they
 * cannot be known, the step fails telling so rather than waiting for nothing.
 */
#include "handlers/drain/steps_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/log.h"
#include "agent/io/connections.h"

#define LOOK_LEAST_USEC (250 * USEC_PER_MSEC)
#define LOOK_MOST_USEC	USEC_PER_SEC
/* Looking may take this part of the time at most: listing 10,000 connections takes 4 ms. */
#define LOOK_SHARE	50
#define PORTS_GOOD_USEC (10 * USEC_PER_MINUTE)
#define PORTS_ASK_USEC	(5 * USEC_PER_SEC)

static void look(struct doing *d)
{
	struct loop *loop = d->steps->host->loop;
	usec_t began = time_boot(), took;
	struct error e = ERROR_INIT;
	uint64_t n = 0;
	int r;

	if (d->wants_ports)
		return; /* they come with the answer */
	r = connections_count(d->ports, d->n_ports, &n, &e);
	took = usec_sub(time_boot(), began);
	if (r < 0 && e.cls != ERROR_TRANSIENT) {
		step_end_failed(d, &e);
		return;
	}
	if (r >= 0 && n <= d->at_most) {
		step_end(d, STEP_OUTCOME_OK, 0, NULL);
		return;
	}
	if (r < 0)
		(void)snprintf(d->seen, sizeof(d->seen), "; %.150s", e.msg);
	else
		(void)snprintf(d->seen, sizeof(d->seen), "; %" PRIu64 " %s left", n, n == 1 ? "connection is" : "connections are");
	loop_timer_at(d->again, usec_add(loop_now_boot(loop), usec_min(usec_max(took * LOOK_SHARE, LOOK_LEAST_USEC), LOOK_MOST_USEC)));
}

/* ---- ports of the load balancer ---- */

static void use_ports(struct doing *d)
{
	const struct imds_backends *b = &d->steps->balancer.ports;

	memcpy(d->ports, b->ports, b->n * sizeof(*b->ports));
	d->n_ports = b->n;
	d->wants_ports = false;
	look(d);
}

/* All who wait for them: with the ports, old ones if there are no others; else with why not. */
static void tell_waiting(struct drain_steps *s, const struct error *e)
{
	for (struct doing *d = s->first; d; d = d->next) {
		if (!d->wants_ports || d->ended)
			continue;
		if (s->balancer.ports.n)
			use_ports(d);
		else
			step_end_failed(d, e);
	}
}

static void on_load_balancer(const char *body, size_t len, const struct imds_failure *failure, void *userdata)
{
	struct drain_steps *s = userdata;
	struct error e = failure ? failure->err : ERROR_INIT;
	int r = failure ? -EIO : imds_load_balancer_parse(body, len, &s->balancer.ports, &e);

	imds_call_free(TAKE_PTR(s->balancer.call));
	if (r >= 0)
		s->balancer.told_boot = loop_now_boot(s->host->loop);
	else
		log_for(LOG_LEVEL_WARNING, (.handler = "drain"), "%s%s", e.msg,
			s->balancer.ports.n ? "; using the ports told before" : "; waitForConnections cannot know which ports serve");
	tell_waiting(s, &e);
}

void steps_balancer_ask(struct drain_steps *s)
{
	struct error e = ERROR_INIT;

	if (s->balancer.call)
		return;
	if (imds_get_load_balancer(s->host->http, PORTS_ASK_USEC, on_load_balancer, s, &s->balancer.call, &e) < 0)
		tell_waiting(s, &e);
}

/* ---- the step ---- */

static void begin_connections(struct doing *d, const struct drain_action *a, const struct drain_state *state)
{
	const struct drain_steps *s = d->steps;
	const int64_t *ports = a->step->ports.items;
	usec_t age = usec_sub(loop_now_boot(s->host->loop), s->balancer.told_boot);

	(void)state;
	d->at_most = (uint64_t)a->step->at_most;
	for (size_t i = 0; i < a->step->ports.n && i < LIMIT_PORTS; i++)
		d->ports[d->n_ports++] = (uint16_t)ports[i];
	d->wants_ports = a->step->ports_from_load_balancer;
	if (d->wants_ports && s->balancer.ports.n && age < PORTS_GOOD_USEC)
		use_ports(d);
	else if (!d->wants_ports)
		look(d);
	else {
		(void)snprintf(d->seen, sizeof(d->seen), "; the ports of the load balancer are not known");
		steps_balancer_ask(d->steps);
	}
}

const struct step_kind step_wait_for_connections = { .begin = begin_connections, .stop = step_end_stopped, .again = look };
