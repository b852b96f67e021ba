/* The load balancer's metadata: which local ports it leads to, and the documents that do not say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/azure/imds.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"

#define DOCUMENT(rules) "{\"loadbalancer\":{\"publicIpAddresses\":[],\"inboundRules\":[" rules "],\"outboundRules\":[]}}"

static int parse(const char *text, struct imds_backends *b, struct error *e)
{
	*e = ERROR_INIT;
	return imds_load_balancer_parse(text, strlen(text), b, e);
}

static void test_ports(void **state)
{
	struct imds_backends b;
	struct error e;

	(void)state;
	/* As documented; then numbers as texts, each port once, and what is not TCP left out. */
	assert_int_equal(parse(DOCUMENT("{\"frontendIpAddress\":\"50.0.0.1\",\"protocol\":\"tcp\",\"frontendPort\":80,"
					"\"backendPort\":443,\"privateIpAddress\":\"10.1.0.4\"}"), &b, &e), 0);
	assert_int_equal(b.n, 1);
	assert_int_equal(b.ports[0], 443);
	assert_int_equal(parse(DOCUMENT("{\"protocol\":\"Tcp\",\"backendPort\":\"8080\"},{\"protocol\":\"UDP\",\"backendPort\":53},"
					"{\"backendPort\":8080},{\"protocol\":\"tcp\"},{\"protocol\":\"tcp\",\"backendPort\":65535}"),
			       &b, &e), 0);
	assert_int_equal(b.n, 2);
	assert_int_equal(b.ports[0], 8080);
	assert_int_equal(b.ports[1], 65535);
}

static void test_documents_that_do_not_say(void **state)
{
	static const struct {
		const char *text;
		int result;
		const char *told;
	} cases[] = {
		{ DOCUMENT(""), -ENODATA, "no rule for TCP" },
		{ "{}", -ENODATA, "no rule for TCP" },
		{ DOCUMENT("{\"protocol\":\"udp\",\"backendPort\":53}"), -ENODATA, "no rule for TCP" },
		{ DOCUMENT("{\"protocol\":\"All\",\"frontendPort\":0,\"backendPort\":0}"), -ENOTSUP, "all ports" },
		{ DOCUMENT("{\"protocol\":\"tcp\",\"backendPort\":65536}"), -EINVAL, "backendPort" },
		{ DOCUMENT("{\"protocol\":\"tcp\",\"backendPort\":-1}"), -EINVAL, "backendPort" },
		{ "{\"loadbalancer\":[", -EBADMSG, "load balancer metadata" },
		{ "", -EBADMSG, "load balancer metadata" },
	};
	struct imds_backends b = { .n = 7 };
	struct error e;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		int r = parse(cases[i].text, &b, &e);

		if (r != cases[i].result || !strstr(e.msg, cases[i].told))
			fail_msg("%s: %d, %s", cases[i].text, r, e.msg);
		assert_int_equal(b.n, 7);
	}
}

static void test_too_many(void **state)
{
	_cleanup_buf_ struct buf text = BUF_INIT(65536);
	struct imds_backends b;
	struct error e;

	(void)state;
	for (int n = LIMIT_PORTS; n <= LIMIT_PORTS + 1; n++) {
		buf_reset(&text);
		(void)buf_puts(&text, "{\"loadbalancer\":{\"inboundRules\":[");
		for (int i = 0; i < n; i++)
			(void)buf_printf(&text, "%s{\"protocol\":\"tcp\",\"backendPort\":%d}", i ? "," : "", 1000 + i);
		(void)buf_puts(&text, "]}}");
		assert_int_equal(buf_ok(&text), 0);
		assert_int_equal(parse(buf_str(&text), &b, &e), n == LIMIT_PORTS ? 0 : -E2BIG);
		assert_int_equal(b.n, LIMIT_PORTS);
	}
	assert_non_null(strstr(e.msg, "name those that serve"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ports),
		cmocka_unit_test(test_documents_that_do_not_say),
		cmocka_unit_test(test_too_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
