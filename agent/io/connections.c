/* Established connections from sock_diag: one dump per family, and per port while they are few. */
#include "agent/io/connections.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "agent/base/cleanup.h"

#define BUFFER_MAX 32768       /* the kernel sends no larger pieces */
#define DUMP_TRIES 3
/* The kernel looks through its whole table for each; beyond this, listing everything once is cheaper. */
#define DUMPS_MAX 4

/* ---- what the kernel says ---- */

static bool is_among(const uint16_t *ports, size_t n, uint16_t port)
{
	for (size_t i = 0; i < n; i++)
		if (ports[i] == port)
			return true;
	return false;
}

static bool is_probe(const struct inet_diag_msg *m)
{
	/* PROBES_IPV4, the same in an IPv6 address, PROBES_IPV6 */
	static const uint8_t v4[] = { 168, 63, 129, 16 };
	static const uint8_t mapped[16] = { [10] = 0xff, 0xff, 168, 63, 129, 16 };
	static const uint8_t v6[16] = { 0xfe, 0x80, [10] = 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc };
	const void *from = m->id.idiag_dst;

	if (m->idiag_family == AF_INET)
		return memcmp(from, v4, sizeof(v4)) == 0;
	return m->idiag_family == AF_INET6 &&
	       (memcmp(from, mapped, sizeof(mapped)) == 0 || memcmp(from, v6, sizeof(v6)) == 0);
}

static int take(const uint8_t *payload, size_t len, struct connections_tally *t)
{
	struct inet_diag_msg m;

	if (len < sizeof(m))
		return -EBADMSG;
	memcpy(&m, payload, sizeof(m));
	if (m.idiag_state == TCP_ESTABLISHED && is_among(t->ports, t->n_ports, ntohs(m.id.idiag_sport)) && !is_probe(&m))
		t->count++;
	return 0;
}

static int told_error(const uint8_t *payload, size_t len)
{
	int error;

	if (len < sizeof(error))
		return -EBADMSG;
	memcpy(&error, payload, sizeof(error));
	return error < 0 && error > -4096 ? error : -EBADMSG;
}

int connections_parse(const void *data, size_t len, struct connections_tally *t)
{
	const uint8_t *at = data;

	while (len >= sizeof(struct nlmsghdr)) {
		struct nlmsghdr h;
		size_t whole;
		int r = 0;

		memcpy(&h, at, sizeof(h));
		if (h.nlmsg_len < sizeof(h) || h.nlmsg_len > len)
			return -EBADMSG;
		if (h.nlmsg_flags & NLM_F_DUMP_INTR)
			t->interrupted = true;
		if (h.nlmsg_type == NLMSG_DONE)
			return 1;
		if (h.nlmsg_type == NLMSG_ERROR)
			return told_error(at + sizeof(h), h.nlmsg_len - sizeof(h));
		if (h.nlmsg_type == SOCK_DIAG_BY_FAMILY)
			r = take(at + sizeof(h), h.nlmsg_len - sizeof(h), t);
		if (r < 0)
			return r;
		whole = NLMSG_ALIGN((size_t)h.nlmsg_len);
		if (whole > len)
			whole = len;
		at += whole;
		len -= whole;
	}
	return len == 0 ? 0 : -EBADMSG;
}

/* ---- asking ---- */

static int ask(int fd, int family, uint16_t port)
{
	const struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	struct {
		struct nlmsghdr header;
		struct inet_diag_req_v2 request;
	} m = {
		.header = { .nlmsg_len = sizeof(m), .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		.request = { .sdiag_family = (uint8_t)family, .sdiag_protocol = IPPROTO_TCP, .idiag_states = 1U << TCP_ESTABLISHED },
	};
	ssize_t n;

	m.request.id.idiag_sport = htons(port);
	n = sendto(fd, &m, sizeof(m), 0, (const struct sockaddr *)&kernel, sizeof(kernel));
	return n < 0 ? -errno : n == (ssize_t)sizeof(m) ? 0 : -EIO;
}

static int read_answer(int fd, struct connections_tally *t)
{
	uint8_t buffer[BUFFER_MAX];
	int r = 0;

	while (r == 0) {
		struct sockaddr_nl from = { .nl_family = AF_NETLINK };
		struct iovec piece = { .iov_base = buffer, .iov_len = sizeof(buffer) };
		struct msghdr m = { .msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &piece, .msg_iovlen = 1 };
		ssize_t n = recvmsg(fd, &m, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		if (from.nl_pid != 0)
			continue;
		if (n == 0 || (m.msg_flags & MSG_TRUNC))
			return -EBADMSG;
		r = connections_parse(buffer, (size_t)n, t);
	}
	return r < 0 ? r : 0;
}

/* A socket of its own for each list: one that was given up leaves nothing unread for the next. */
static int list(int family, uint16_t port, struct connections_tally *t)
{
	_cleanup_close_ int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	const struct timeval patience = { .tv_sec = 2 };
	int r;

	if (fd < 0)
		return -errno;
	/* The kernel answers while it is asked; a loop with other things to do does not bet on it. */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0)
		return -errno;
	r = ask(fd, family, port);
	return r < 0 ? r : read_answer(fd, t);
}

static int count_once(const uint16_t *ports, size_t n_ports, struct connections_tally *t)
{
	static const int families[] = { AF_INET, AF_INET6 };
	size_t dumps = n_ports <= DUMPS_MAX ? n_ports : 1;
	int r = 0;

	*t = (struct connections_tally){ .ports = ports, .n_ports = n_ports };
	for (size_t f = 0; r >= 0 && f < ARRAY_SIZE(families); f++)
		for (size_t i = 0; r >= 0 && i < dumps; i++)
			if (!is_among(ports, i, ports[i])) /* named twice, counted once */
				r = list(families[f], n_ports <= DUMPS_MAX ? ports[i] : 0, t);
	return r;
}

int connections_count(const uint16_t *ports, size_t n_ports, uint64_t *ret, struct error *err)
{
	for (int i = 0; i < DUMP_TRIES; i++) {
		struct connections_tally t;
		int r = count_once(ports, n_ports, &t);

		if (r == -ENOENT)
			return error_set(err, ERROR_SYSTEM, r,
					 "connections cannot be counted: this kernel lacks inet_diag (modprobe tcp_diag)");
		if (r < 0)
			return error_errno(err, r, "connections cannot be counted (sock_diag)");
		if (!t.interrupted) {
			*ret = t.count;
			return 0;
		}
	}
	return error_set(err, ERROR_TRANSIENT, -EAGAIN, "connections cannot be counted: they change faster than the kernel lists them");
}
