/* Signed URIs of blobs. The expected signatures are HMACs that Python's hmac made from the documented text. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/azure/blob.h"
#include "agent/base/macros.h"
#include "agent/core/settings_common.h"

#define UNTIL (1795161600 * USEC_PER_SEC) /* 2026-11-20T08:00:00Z */
#define KEY   "a2V5IG9mIHRoZSBhY2NvdW50"

static char *const hosts[] = { (char[]){ "files.example.org" } };
static const struct identity system_assigned;
static const struct blob_credentials with_key = { .account = "account", .key = KEY, .hosts = hosts, .n_hosts = 1 };
static const struct blob_credentials with_both = { .account = "account", .key = KEY, .signature_first = true };
static const struct blob_credentials wrong = { .account = "account", .key = "not base64!" };
static const struct blob_credentials with_identity = { .identity = &system_assigned, .hosts = hosts, .n_hosts = 1 };
static const struct blob_credentials none;

static void expect(const char *uri, const char *url)
{
	struct buf out = BUF_INIT(4096);
	struct error e;

	assert_int_equal(blob_sign(uri, &with_key, "r", UNTIL, &out, &e), 0);
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
	assert_int_equal(blob_sign("https://example.com/a?sig=hunter2", &with_key, "r", UNTIL, &out, &e), -EINVAL);
	assert_null(strstr(e.msg, "hunter2"));
	assert_int_equal(blob_sign("https://a.blob.core.windows.net/", &with_key, "r", UNTIL, &out, &e), -EINVAL);
	assert_int_equal(blob_sign("https://a.blob.core.windows.net/b/c", &wrong, "r", UNTIL, &out, &e), -EINVAL);
	assert_null(strstr(e.msg, "not base64!"));
	assert_int_equal(blob_sign("ftp://a", &with_key, "r", UNTIL, &out, &e), -EINVAL);
	assert_int_equal(out.len, 0);
	buf_done(&out);
}

static void test_rights(void **state)
{
	static const struct {
		const char *uri;
		const struct blob_credentials *c;
		enum blob_right right;
	} cases[] = {
		{ "https://a.blob.core.windows.net/b/c", &none, BLOB_ANONYMOUS },
		{ "https://a.blob.core.windows.net/b/c?sv=1&sig=x", &none, BLOB_SIGNATURE },
		{ "https://a.blob.core.windows.net/b/c?sig=x", &with_identity, BLOB_SIGNATURE },
		{ "https://a.blob.core.windows.net/b/c?design=x", &with_identity, BLOB_IDENTITY },
		{ "https://a.blob.core.windows.net/b/c", &with_identity, BLOB_IDENTITY },
		{ "https://a.blob.core.chinacloudapi.cn/b/c", &with_identity, BLOB_IDENTITY },
		{ "https://a.blob.core.usgovcloudapi.net/b/c", &with_identity, BLOB_IDENTITY },
		{ "https://a.z12.blob.storage.azure.net/b/c", &with_identity, BLOB_IDENTITY },
		{ "https://a.privatelink.blob.core.windows.net/b/c", &with_identity, BLOB_IDENTITY },
		{ "https://a.blob.local.azurestack.external/b/c", &with_identity, BLOB_IDENTITY },
		{ "https://A.Blob.Core.Windows.Net:8443/b/c", &with_identity, BLOB_IDENTITY },
		{ "https://files.example.org/b/c", &with_identity, BLOB_IDENTITY },
		/* Never in the clear, never to anyone else. */
		{ "http://a.blob.core.windows.net/b/c", &with_identity, BLOB_ANONYMOUS },
		{ "https://example.org/a.blob.core.windows.net/c", &with_identity, BLOB_ANONYMOUS },
		{ "https://other.example.org/b/c", &with_identity, BLOB_ANONYMOUS },
		{ "https://blob.core.windows.net/b/c", &with_identity, BLOB_ANONYMOUS },
		{ "https://a.blob.net/b/c", &with_identity, BLOB_ANONYMOUS },
		{ "https://a.blob.core.windows.net/b/c?sig=x", &with_key, BLOB_KEY },
		{ "https://a.blob.core.windows.net/b/c?sig=x", &with_both, BLOB_SIGNATURE },
		{ "https://a.blob.core.windows.net/b/c", &with_both, BLOB_KEY },
		{ "not a URI", &with_both, BLOB_KEY },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (blob_right_of(cases[i].uri, cases[i].c) != cases[i].right)
			fail_msg("%s: %d", cases[i].uri, (int)blob_right_of(cases[i].uri, cases[i].c));
}

static void test_hosts_with_key(void **state)
{
	static const char end[] = "/b/c?sv=2018-03-28&sr=b&sp=racw&se=2026-11-20T08%3A00%3A00Z&sig=";
	static const char *const pairs[][2] = {
		{ "https://other.z12.blob.storage.azure.net/b/c", "https://account.z12.blob.storage.azure.net" },
		{ "https://files.example.org/b/c?sig=old", "https://files.example.org" },
		{ "http://other.blob.local.azurestack.external:10000/b/c", "https://account.blob.local.azurestack.external:10000" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		struct buf out = BUF_INIT(4096);
		size_t n = strlen(pairs[i][1]);

		assert_int_equal(blob_sign(pairs[i][0], &with_key, "racw", UNTIL, &out, NULL), 0);
		assert_memory_equal(out.data, pairs[i][1], n);
		assert_memory_equal(out.data + n, end, strlen(end));
		buf_done(&out);
	}
}

/* Each says who, on what, and what to do; none shows the signature. */
static void test_advice(void **state)
{
	static const struct {
		struct blob_refusal r;
		const char *says;
	} cases[] = {
		{ { "https://a.blob.core.windows.net/b/c", BLOB_IDENTITY, "client id 7", false, 403, "AuthorizationPermissionMismatch" },
		  "the identity (client id 7) needs Storage Blob Data Reader on storage account a" },
		{ { "https://a.blob.core.windows.net/b/c", BLOB_IDENTITY, "client id 7", true, 403, NULL },
		  "the identity (client id 7) needs Storage Blob Data Contributor on storage account a" },
		{ { "https://files.example.org/c", BLOB_IDENTITY, "system-assigned", false, 401, NULL },
		  "needs Storage Blob Data Reader on files.example.org" },
		{ { "https://a.blob.core.windows.net/b/c", BLOB_IDENTITY, "client id 7", false, 401, "InvalidAuthenticationInfo" },
		  "another tenant" },
		{ { "https://a.blob.core.windows.net/b/c", BLOB_IDENTITY, "client id 7", false, 403, "AuthorizationFailure" },
		  "the firewall of storage account a" },
		{ { "https://a.blob.core.windows.net/b/c?sig=hunter2", BLOB_SIGNATURE, "", false, 403, "AuthenticationFailed" },
		  "is not valid, or has expired" },
		{ { "https://a.blob.core.windows.net/b/c?sig=hunter2", BLOB_SIGNATURE, "", true, 403, "AuthorizationPermissionMismatch" },
		  "sp=racw" },
		{ { "https://a.blob.core.windows.net/b/c", BLOB_KEY, "", false, 403, "KeyBasedAuthenticationNotPermitted" },
		  "allows no keys; use an identity" },
		{ { "https://a.blob.core.windows.net/b/c", BLOB_KEY, "", false, 403, "AuthenticationFailed" }, "storageAccountKey" },
		{ { "https://a.blob.core.windows.net/b/c", BLOB_ANONYMOUS, "", false, 409, "PublicAccessNotPermitted" }, "it is not public" },
		{ { "https://example.org/c", BLOB_ANONYMOUS, "", false, 404, NULL }, "does not exist, or is not public" },
		{ { "http://example.org/c", BLOB_ANONYMOUS, "", false, 407, NULL }, "network.proxy" },
		{ { "https://example.org/c", BLOB_ANONYMOUS, "", false, 503, NULL }, "" },
	};
	char text[320];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		blob_advise(&cases[i].r, text, sizeof(text));
		if (!strstr(text, cases[i].says) || (!*cases[i].says && *text) || strstr(text, "hunter2"))
			fail_msg("%zu: %s", i, text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_signed), cmocka_unit_test(test_refused),
						cmocka_unit_test(test_rights), cmocka_unit_test(test_hosts_with_key),
						cmocka_unit_test(test_advice) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
