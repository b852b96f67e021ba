/* Signed URIs of blobs. The expected signatures are HMACs that Python's hmac made from the documented text. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/azure/blob.h"

#define UNTIL (1795161600 * USEC_PER_SEC) /* 2026-11-20T08:00:00Z */
#define KEY   "a2V5IG9mIHRoZSBhY2NvdW50"

static void expect(const char *uri, const char *url)
{
	struct buf out = BUF_INIT(4096);
	struct error e;

	assert_int_equal(blob_sign(uri, "account", KEY, UNTIL, &out, &e), 0);
	assert_string_equal(out.data, url);
	buf_done(&out);
}

static void test_signed(void **state)
{
	(void)state;
	expect("http://other.blob.core.windows.net/box/my%20file.sh?x=1",
	       "https://account.blob.core.windows.net/box/my%20file.sh?sv=2018-03-28&sr=b&sp=r&se=2026-11-20T08%3A00%3A00Z&sig=MU%2FFlU7Y4pB35s4amzYPNaHTJuOx38yaovA7HNwyte0%3D");
	expect("https://other.blob.core.windows.net/file.sh",
	       "https://account.blob.core.windows.net/file.sh?sv=2018-03-28&sr=b&sp=r&se=2026-11-20T08%3A00%3A00Z&sig=oH5dVsqywSbdBR7CML07Whbbs6vfJIHPiersUt9lnwk%3D");
}

static void test_refused(void **state)
{
	struct buf out = BUF_INIT(4096);
	struct error e;

	(void)state;
	assert_int_equal(blob_sign("https://example.com/a?sig=hunter2", "account", KEY, UNTIL, &out, &e), -EINVAL);
	assert_null(strstr(e.msg, "hunter2"));
	assert_int_equal(blob_sign("https://a.blob.core.windows.net/", "account", KEY, UNTIL, &out, &e), -EINVAL);
	assert_int_equal(blob_sign("https://a.blob.core.windows.net/b/c", "account", "not base64!", UNTIL, &out, &e), -EINVAL);
	assert_null(strstr(e.msg, "not base64!"));
	assert_int_equal(blob_sign("ftp://a", "account", KEY, UNTIL, &out, &e), -EINVAL);
	assert_int_equal(out.len, 0);
	buf_done(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_signed), cmocka_unit_test(test_refused) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
