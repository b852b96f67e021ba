/* Counting connections: real ones on loopback, and what the kernel may say otherwise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/macros.h"
#include "agent/io/connections.h"

#define MANY 200

struct pair {
	int client, server;
};

/* A listener on a port of the kernel's choice; [::] takes IPv4 clients, too. */
static int listen_on(int family, uint16_t *ret_port)
{
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT };
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_ANY) };
	struct sockaddr *a = family == AF_INET ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
	socklen_t len = family == AF_INET ? sizeof(v4) : sizeof(v6);
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), off = 0;

	assert_true(fd >= 0);
	if (family == AF_INET6)
		assert_int_equal(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)), 0);
	assert_int_equal(bind(fd, a, len), 0);
	assert_int_equal(listen(fd, MANY), 0);
	assert_int_equal(getsockname(fd, a, &len), 0);
	*ret_port = ntohs(family == AF_INET ? v4.sin_port : v6.sin6_port);
	return fd;
}

static struct pair connect_from(int listener, uint16_t port, const char *source, const char *target)
{
	struct sockaddr_in from = { .sin_family = AF_INET }, to = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct pair p = { .client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };

	assert_true(p.client >= 0);
	assert_int_equal(inet_pton(AF_INET, target, &to.sin_addr), 1);
	if (source) {
		assert_int_equal(inet_pton(AF_INET, source, &from.sin_addr), 1);
		assert_int_equal(bind(p.client, (struct sockaddr *)&from, sizeof(from)), 0);
	}
	assert_int_equal(connect(p.client, (struct sockaddr *)&to, sizeof(to)), 0);
	p.server = accept(listener, NULL, NULL);
	assert_true(p.server >= 0);
	return p;
}

static void drop(struct pair p)
{
	(void)close(p.client);
	(void)close(p.server);
}

static uint64_t count(const uint16_t *ports, size_t n)
{
	struct error e = ERROR_INIT;
	uint64_t found = UINT64_MAX;

	if (connections_count(ports, n, &found, &e) < 0)
		fail_msg("%s", e.msg);
	return found;
}

static void test_established(void **state)
{
	uint16_t port, other;
	int listener = listen_on(AF_INET, &port), second = listen_on(AF_INET, &other);
	struct pair a, b;

	(void)state;
	assert_int_equal(count(&port, 1), 0);
	a = connect_from(listener, port, NULL, "127.0.0.1");
	b = connect_from(listener, port, NULL, "127.0.0.1");
	/* Once each, though both ends are on this machine; and none of the port beside it. */
	assert_int_equal(count(&port, 1), 2);
	assert_int_equal(count(&other, 1), 0);
	/* Closed by the client: the server's half is no connection that anybody waits for. */
	(void)close(a.client);
	assert_int_equal(count(&port, 1), 1);
	(void)close(a.server);
	drop(b);
	assert_int_equal(count(&port, 1), 0);
	(void)close(listener);
	(void)close(second);
}

static void test_dual_stack(void **state)
{
	uint16_t port;
	int listener = listen_on(AF_INET6, &port);
	struct pair p = connect_from(listener, port, NULL, "127.0.0.1");

	(void)state;
	assert_int_equal(count(&port, 1), 1);
	drop(p);
	assert_int_equal(count(&port, 1), 0);
	(void)close(listener);
}

static void test_many_of_many_ports(void **state)
{
	uint16_t ports[8];
	int listeners[ARRAY_SIZE(ports)];
	static struct pair pairs[MANY];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ports); i++)
		listeners[i] = listen_on(i % 2 ? AF_INET6 : AF_INET, &ports[i]);
	for (size_t i = 0; i < MANY; i++)
		pairs[i] = connect_from(listeners[i % ARRAY_SIZE(ports)], ports[i % ARRAY_SIZE(ports)], NULL, "127.0.0.1");
	assert_int_equal(count(ports, ARRAY_SIZE(ports)), MANY);
	assert_int_equal(count(ports, 3), 3 * MANY / ARRAY_SIZE(ports));
	assert_int_equal(count(ports, 1), MANY / ARRAY_SIZE(ports));
	assert_int_equal(count((const uint16_t[]){ ports[0], ports[1], ports[0] }, 3), 2 * MANY / ARRAY_SIZE(ports));
	assert_int_equal(count(NULL, 0), 0);
	for (size_t i = 0; i < MANY; i++)
		drop(pairs[i]);
	assert_int_equal(count(ports, ARRAY_SIZE(ports)), 0);
	for (size_t i = 0; i < ARRAY_SIZE(ports); i++)
		(void)close(listeners[i]);
}

/* An address and the interface it is on, up. */
static void add_address(const char *interface, const char *address)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = { .ifr_flags = 0 };
	struct sockaddr_in a = { .sin_family = AF_INET };

	assert_true(fd >= 0);
	(void)strncpy(request.ifr_name, interface, IFNAMSIZ - 1);
	assert_int_equal(inet_pton(AF_INET, address, &a.sin_addr), 1);
	memcpy(&request.ifr_addr, &a, sizeof(a));
	assert_int_equal(ioctl(fd, SIOCSIFADDR, &request), 0);
	request.ifr_flags = IFF_UP | IFF_LOOPBACK;
	assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &request), 0);
	(void)close(fd);
}

/* The kernel's struct in6_ifreq, whose header cannot stand beside netinet/in.h. */
struct address6 {
	struct in6_addr address;
	uint32_t prefix;
	int interface;
};

static bool add_probes6(int interface)
{
	struct address6 a = { .prefix = 64, .interface = interface };
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0), r;

	assert_int_equal(inet_pton(AF_INET6, PROBES_IPV6, &a.address), 1);
	r = fd < 0 ? -1 : ioctl(fd, SIOCSIFADDR, &a);
	if (fd >= 0)
		(void)close(fd);
	return r == 0;
}

static struct pair connect_from_probes6(int listener, uint16_t port, int interface)
{
	struct sockaddr_in6 from = { .sin6_family = AF_INET6, .sin6_scope_id = (uint32_t)interface };
	struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT, .sin6_port = htons(port) };
	struct pair p = { .client = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0) };

	assert_true(p.client >= 0);
	assert_int_equal(inet_pton(AF_INET6, PROBES_IPV6, &from.sin6_addr), 1);
	/* The kernel takes a new address into use a moment later. */
	for (int i = 0; bind(p.client, (struct sockaddr *)&from, sizeof(from)) < 0; i++) {
		assert_true(errno == EADDRNOTAVAIL && i < 500);
		(void)usleep(10000);
	}
	assert_int_equal(connect(p.client, (struct sockaddr *)&to, sizeof(to)), 0);
	p.server = accept(listener, NULL, NULL);
	assert_true(p.server >= 0);
	return p;
}

/* 0: as it should be. In a network of our own, for the address is the platform's. */
static int count_probes(void)
{
	uint16_t port, port6;
	int listener, both;
	struct pair probe, client, mapped, probe6;
	int interface = (int)if_nametoindex("lo");
	bool v6;

	add_address("lo", "127.0.0.1");
	add_address("lo:1", "168.63.129.16");
	listener = listen_on(AF_INET, &port);
	both = listen_on(AF_INET6, &port6);
	probe = connect_from(listener, port, "168.63.129.16", "127.0.0.1");
	mapped = connect_from(both, port6, "168.63.129.16", "127.0.0.1");
	v6 = add_probes6(interface);
	if (v6)
		probe6 = connect_from_probes6(both, port6, interface);
	if (count(&port, 1) != 0 || count(&port6, 1) != 0)
		return 1;
	client = connect_from(both, port6, "127.0.0.1", "127.0.0.1");
	if (count(&port6, 1) != 1)
		return 2;
	drop(probe);
	drop(client);
	drop(mapped);
	if (v6)
		drop(probe6);
	(void)close(listener);
	(void)close(both);
	return 0;
}

static void test_probes_never_count(void **state)
{
	pid_t child = fork();
	int status;

	(void)state;
	assert_true(child >= 0);
	if (child == 0)
		_exit(unshare(CLONE_NEWNET) < 0 ? 77 : count_probes());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip(); /* not root */
	assert_int_equal(WEXITSTATUS(status), 0);
}

struct piece {
	struct nlmsghdr header;
	struct inet_diag_msg diag;
};

static struct piece piece_of(uint16_t port)
{
	return (struct piece){
		.header = { .nlmsg_len = sizeof(struct piece), .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_MULTI },
		.diag = { .idiag_family = AF_INET, .idiag_state = TCP_ESTABLISHED, .id = { .idiag_sport = htons(port) } },
	};
}

static void test_what_the_kernel_says(void **state)
{
	const uint16_t port = 8080;
	struct piece two[2] = { piece_of(8080), piece_of(8081) };
	struct {
		struct nlmsghdr header;
		int error;
	} end = { .header = { .nlmsg_len = sizeof(end), .nlmsg_type = NLMSG_DONE } };
	struct connections_tally t = { .ports = &port, .n_ports = 1 };

	(void)state;
	assert_int_equal(connections_parse(two, sizeof(two), &t), 0);
	assert_int_equal(t.count, 1);
	assert_false(t.interrupted);
	two[0].diag.idiag_state = TCP_CLOSE_WAIT;
	assert_int_equal(connections_parse(two, sizeof(two), &t), 0);
	assert_int_equal(t.count, 1);
	two[1].diag.idiag_family = AF_INET6;
	two[1].diag.id.idiag_sport = htons(port);
	assert_int_equal(inet_pton(AF_INET6, PROBES_IPV6, two[1].diag.id.idiag_dst), 1);
	assert_int_equal(connections_parse(two, sizeof(two), &t), 0);
	assert_int_equal(t.count, 1);
	assert_int_equal(inet_pton(AF_INET6, "fe80::1234:5678:9abd", two[1].diag.id.idiag_dst), 1);
	assert_int_equal(connections_parse(two, sizeof(two), &t), 0);
	assert_int_equal(t.count, 2);
	t.count = 1;
	two[1] = piece_of(8081);
	two[1].header.nlmsg_flags |= NLM_F_DUMP_INTR;
	assert_int_equal(connections_parse(two, sizeof(two), &t), 0);
	assert_true(t.interrupted);
	assert_int_equal(connections_parse(&end, sizeof(end), &t), 1);
	end.header.nlmsg_type = NLMSG_ERROR;
	end.error = -ENOENT;
	assert_int_equal(connections_parse(&end, sizeof(end), &t), -ENOENT);
	end.error = 5;
	assert_int_equal(connections_parse(&end, sizeof(end), &t), -EBADMSG);
	/* Cut off anywhere, or with lengths that lie. */
	for (size_t len = 1; len < sizeof(two[0]); len++)
		assert_int_equal(connections_parse(two, len, &t), -EBADMSG);
	two[0].header.nlmsg_len = 3;
	assert_int_equal(connections_parse(two, sizeof(two), &t), -EBADMSG);
	two[0].header.nlmsg_len = sizeof(two) + 1;
	assert_int_equal(connections_parse(two, sizeof(two), &t), -EBADMSG);
	assert_int_equal(t.count, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_established),	   cmocka_unit_test(test_dual_stack),
		cmocka_unit_test(test_many_of_many_ports), cmocka_unit_test(test_probes_never_count),
		cmocka_unit_test(test_what_the_kernel_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
