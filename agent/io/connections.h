/*
 * Counting established TCP connections by their local port, as the kernel lists them (sock_diag over netlink): no
 * capability is needed. Both families; an IPv4 client of a dual-stack listener, which the kernel lists as ::ffff:a.b.c.d, is
 * taken for what it is. Connections of the platform's own probes never count: they come as long as the VM lives. Clients on this machine do count: a proxy in front of the application holds somebody's request. A connection that
 * is closing does not: one side has said that it is done.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/error.h"

/* Where the load balancer's probes come from. Microsoft's page on them names the first, and of the second that it is a
 * link-local address; it is the one that VMs see, and that the platform's gateway has on each of their networks. */
#define PROBES_IPV4 "168.63.129.16"
#define PROBES_IPV6 "fe80::1234:5678:9abc"

/* At most LIMIT_PORTS ports. Blocks for as long as the kernel takes to list them: 4 ms with 10,000 connections.
 * -EAGAIN (transient): the list changed again and again while it was read; ask later. */
_nodiscard_ int connections_count(const uint16_t *ports, size_t n_ports, uint64_t *ret, struct error *err);

/* One datagram of the kernel's answer, for the count above and for tests. Need not be aligned. */
struct connections_tally {
	const uint16_t *ports;
	size_t n_ports;
	uint64_t count;
	bool interrupted; /* NLM_F_DUMP_INTR: what was listed may be neither before nor after a change */
};
/* 1: that was the last one; 0: more to come. -EBADMSG: not what the kernel sends; or the errno it tells. */
_nodiscard_ int connections_parse(const void *data, size_t len, struct connections_tally *t);
