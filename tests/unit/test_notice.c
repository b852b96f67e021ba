/* Notices: who wants them, the four shapes, the signature, and hostile texts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/limits.h"
#include "agent/core/notice.h"
#include "agent/core/settings_common.h"

static struct notice drained(void)
{
	static char subject[] = "A1B2", message[] = "drained for Reboot <A1B2> & \"more\"", type[] = "Reboot";

	return (struct notice){ .number = 7,
				.kind = NOTICE_DRAIN,
				.subject = subject,
				.message = message,
				.event_type = type,
				.wall_usec = 1795166400LL * 1000000 };
}

static const struct notice_sender web = { "web-3", "11112222", "/subscriptions/s/vm/web-3", NULL };

static void expect(int format, const char *type, const char *wanted)
{
	_cleanup_buf_ struct buf out = BUF_INIT(LIMIT_NOTICE);
	const struct notice n = drained();
	const char *got = NULL;

	assert_int_equal(notice_render(&n, format, &web, &out, &got), 0);
	assert_string_equal(got, type);
	assert_string_equal(buf_str(&out), wanted);
}

#define DATA                                                                                                           \
	"{\"kind\":\"drain\",\"time\":\"2026-11-20T09:20:00Z\",\"number\":7,\"problem\":false,\"subject\":\"A1B2\","   \
	"\"eventType\":\"Reboot\",\"message\":\"drained for Reboot <A1B2> & \\\"more\\\"\",\"vm\":{\"name\":"          \
	"\"web-3\",\"id\":\"11112222\",\"resourceId\":\"/subscriptions/s/vm/web-3\"}}"

static void test_shapes(void **state)
{
	(void)state;
	expect(WEBHOOK_JSON, "application/json", DATA);
	expect(WEBHOOK_CLOUD_EVENTS, "application/cloudevents+json; charset=utf-8",
	       "{\"specversion\":\"1.0\",\"type\":\"evenkeel.drain\",\"id\":\"7\",\"time\":\"2026-11-20T09:20:00Z\","
	       "\"source\":\"/subscriptions/s/vm/web-3\",\"subject\":\"A1B2\",\"datacontenttype\":\"application/json\","
	       "\"data\":" DATA "}");
	expect(WEBHOOK_SLACK, "application/json",
	       "{\"text\":\"web-3: drained for Reboot &lt;A1B2&gt; &amp; \\\"more\\\"\"}");
	expect(WEBHOOK_TEAMS, "application/json",
	       "{\"type\":\"message\",\"attachments\":[{\"contentType\":\"application/vnd.microsoft.card.adaptive\","
	       "\"content\":{\"$schema\":\"http://adaptivecards.io/schemas/adaptive-card.json\",\"type\":\"AdaptiveCard\","
	       "\"version\":\"1.4\",\"body\":[{\"type\":\"TextBlock\",\"wrap\":true,\"color\":\"default\",\"text\":"
	       "\"web-3: drained for Reboot <A1B2> & \\\"more\\\"\"}]}}]}");
}

static void test_wanted(void **state)
{
	int on[] = { NOTICE_RESTORE, NOTICE_PROBLEM };
	const struct webhook_settings w = { .on = { on, 2 } };
	struct notice n = drained();

	(void)state;
	assert_false(notice_wanted(&w, &n));
	n.problem = true;
	assert_true(notice_wanted(&w, &n));
	n.problem = false;
	n.kind = NOTICE_RESTORE;
	assert_true(notice_wanted(&w, &n));
}

/* Made with: printf '1795166400.{"a":1}' | openssl dgst -sha256 -hmac key */
static void test_signature(void **state)
{
	_cleanup_buf_ struct buf out = BUF_INIT(256);

	(void)state;
	assert_int_equal(notice_sign("key", "1795166400", "{\"a\":1}", 7, &out), 0);
	assert_string_equal(buf_str(&out), "sha256=b7cca672e352eed4fed44ff45a8b665059eb7998c088be4dd448f7d9836f6998");
}

/* The longest texts of the worst characters fit into the limit of every format. */
static void test_worst(void **state)
{
	struct notice n = drained();
	char *worst = malloc(100001);

	(void)state;
	assert_non_null(worst);
	for (int c = 0; c < 3; c++) {
		memset(worst, "\x01&\xff"[c], 100000);
		worst[100000] = '\0';
		n.message = n.subject = worst;
		for (int format = WEBHOOK_JSON; format <= WEBHOOK_TEAMS; format++) {
			_cleanup_buf_ struct buf out = BUF_INIT(LIMIT_NOTICE);
			const char *type = NULL;

			assert_int_equal(notice_render(&n, format, &web, &out, &type), 0);
		}
	}
	free(worst);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shapes),
		cmocka_unit_test(test_wanted),
		cmocka_unit_test(test_signature),
		cmocka_unit_test(test_worst),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
