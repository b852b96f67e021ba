/* Which URLs name a secret, and where tokens never go; what a vault's answer holds. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/azure/keyvault_internal.h"
#include "agent/base/str.h"
#include "agent/codec/json.h"

#define VERSION "0123456789abcdef0123456789ABCDEF"

static char added_suffix[] = ".vault.microsoftazure.example";
static char *added_suffixes[] = { added_suffix };
static const struct jd_list added = { .items = added_suffixes, .n = 1 };

static void test_urls(void **state)
{
	static const struct {
		const char *url, *host, *name, *version, *resource;
	} cases[] = {
		{ "https://shop.vault.azure.net/secrets/web", "shop.vault.azure.net", "web", "",
		  "https://vault.azure.net" },
		{ "https://shop.vault.azure.net:443/secrets/web/", "shop.vault.azure.net", "web", "",
		  "https://vault.azure.net" },
		{ "HTTPS://Shop.Vault.Azure.NET/secrets/Web-1/" VERSION, "shop.vault.azure.net", "Web-1", VERSION,
		  "https://vault.azure.net" },
		{ "https://shop.vault.azure.cn/secrets/web", "shop.vault.azure.cn", "web", "",
		  "https://vault.azure.cn" },
		{ "https://s-1.vault.usgovcloudapi.net/secrets/web", "s-1.vault.usgovcloudapi.net", "web", "",
		  "https://vault.usgovcloudapi.net" },
		{ "https://shop.vault.microsoftazure.example/secrets/web", "shop.vault.microsoftazure.example", "web",
		  "", "https://vault.microsoftazure.example" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char host[256], name[256], version[256], resource[256];
		struct error err = ERROR_INIT;

		if (vault_url_parse(cases[i].url, &added, host, name, version, resource, &err) < 0)
			fail_msg("%s", err.msg);
		assert_string_equal(host, cases[i].host);
		assert_string_equal(name, cases[i].name);
		assert_string_equal(version, cases[i].version);
		assert_string_equal(resource, cases[i].resource);
	}
}

static void test_urls_refused(void **state)
{
	static const struct {
		const char *url, *says;
	} cases[] = {
		{ "", "https://" },
		{ "shop.vault.azure.net/secrets/web", "https://" },
		{ "http://shop.vault.azure.net/secrets/web", "expected https" },
		{ "https://shop.vault.azure.net:8443/secrets/web", "port 443" },
		{ "https://shop.vault.azure.net/secrets/web?api-version=7.4", "query" },
		{ "https://shop.vault.azure.net/secrets/web#x", "fragment" },
		{ "https://me@shop.vault.azure.net/secrets/web", "not a usable URI" },
		{ "https://vault.azure.net/secrets/web", "tokens do not go to" },
		{ "https://shop.vault.azure.net.evil.example/secrets/web", "tokens do not go to" },
		{ "https://shop.evilvault.azure.net/secrets/web", "tokens do not go to" },
		{ "https://a.b.vault.azure.net/secrets/web", "tokens do not go to" },
		{ "https://shop.vault.azure.net./secrets/web", "not a usable URI" },
		{ "https://sh_op.vault.azure.net/secrets/web", "no vault's" },
		{ "https://127.0.0.1/secrets/web", "tokens do not go to" },
		{ "https://[::1]/secrets/web", "no vault's" },
		{ "https://localhost/secrets/web", "no vault's" },
		{ "https://shop.vault.example/secrets/web", "vaultSuffixes" },
		{ "https://shop.managedhsm.azure.net/secrets/web", "managed HSM" },
		{ "https://shop.privatelink.vaultcore.azure.net/secrets/web", "public name" },
		{ "https://shop.vault.azure.net/", "/secrets/NAME" },
		{ "https://shop.vault.azure.net/secrets/", "/secrets/NAME" },
		{ "https://shop.vault.azure.net/certificates/web", "only as a secret" },
		{ "https://shop.vault.azure.net/secrets/we_b", "/secrets/NAME" },
		{ "https://shop.vault.azure.net/secrets/%77eb", "/secrets/NAME" },
		{ "https://shop.vault.azure.net/secrets/..", "/secrets/NAME" },
		{ "https://shop.vault.azure.net/secrets/web/" VERSION "/x", "/secrets/NAME" },
		{ "https://shop.vault.azure.net/secrets/web/0123", "/secrets/NAME" },
		{ "https://shop.vault.azure.net/secrets/web//", "/secrets/NAME" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char host[256], name[256], version[256], resource[256];
		struct error err = ERROR_INIT;

		assert_int_equal(vault_url_parse(cases[i].url, NULL, host, name, version, resource, &err), -EINVAL);
		assert_int_equal(err.cls, ERROR_USER);
		if (!strstr(err.msg, cases[i].says) || !strstr(err.msg, "not a secret of a vault"))
			fail_msg("%s: %s", cases[i].url, err.msg);
	}
}

static void test_long_names(void **state)
{
	char host[256], name[256], version[256], resource[256], url[2000] = "https://shop.vault.azure.net/secrets/";
	size_t start = strlen(url);

	(void)state;
	memset(url + start, 'a', 127);
	assert_int_equal(vault_url_parse(url, NULL, host, name, version, resource, NULL), 0);
	assert_int_equal(strlen(name), 127);
	memset(url + start, 'a', 128);
	assert_int_equal(vault_url_parse(url, NULL, host, name, version, resource, NULL), -EINVAL);
	memset(url + start, 'a', 1500);
	assert_int_equal(vault_url_parse(url, NULL, host, name, version, resource, NULL), -EINVAL);
}

static int parse(const char *text, struct vault_bundle **b, struct vault_secret *s, struct error *err)
{
	return vault_reply_parse(text, strlen(text), b, s, err);
}

static void test_reply(void **state)
{
	struct vault_bundle *b = NULL;
	struct vault_secret s;
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(
		parse("{\"value\": \"a\\nb\", \"id\": \"https://s.vault.azure.net/secrets/n/" VERSION "\","
		      "\"contentType\": \"application/x-pem-file\", \"tags\": {\"a\": \"b\"}, \"managed\": true,"
		      "\"attributes\": {\"enabled\": true, \"nbf\": 10, \"exp\": 20, \"created\": 30, \"updated\": "
		      "40}}",
		      &b, &s, &err),
		0);
	assert_string_equal(s.value, "a\nb");
	assert_int_equal(s.len, 3);
	assert_string_equal(s.version, VERSION);
	assert_string_equal(s.content_type, "application/x-pem-file");
	assert_true(s.enabled && s.not_before == 10 * USEC_PER_SEC && s.expires == 20 * USEC_PER_SEC &&
		    s.created == 30 * USEC_PER_SEC);
	vault_bundle_free(b);

	assert_int_equal(
		parse("{\"value\": \"\", \"id\": \"/1\", \"contentType\": null, \"attributes\": null}", &b, &s, &err),
		0);
	assert_int_equal(s.len, 0);
	assert_string_equal(s.value, "");
	assert_string_equal(s.content_type, "");
	assert_true(s.enabled && s.not_before == 0 && s.expires == 0);
	vault_bundle_free(b);
}

static void test_reply_refused(void **state)
{
	static const char *const cases[] = {
		"",
		"[]",
		"{}",
		"{\"value\": \"hush\"}",
		"{\"id\": \"/1\"}",
		"{\"value\": 5, \"id\": \"/1\"}",
		"{\"value\": \"hush\", \"id\": \"x\"}",
		"{\"value\": \"hush\", \"id\": \"/\"}",
		"{\"value\": \"hush\", \"id\": \"/..\"}",
		"{\"value\": \"hush\", \"id\": \"/a b\"}",
		"{\"value\": \"hush\", \"id\": \"/1\", \"attributes\": {\"exp\": -1}}",
		"{\"value\": \"hush\", \"id\": \"/1\", \"attributes\": {\"exp\": 9999999999999}}",
		"{\"value\": \"hush\", \"id\": \"/1\"",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct vault_bundle *b = NULL;
		struct vault_secret s;
		struct error err = ERROR_INIT;

		assert_true(parse(cases[i], &b, &s, &err) < 0);
		assert_null(b);
		assert_int_equal(err.cls, ERROR_PLATFORM);
		assert_null(strstr(err.msg, "hush"));
	}
}

/* ---- pages of versions ---- */

#define ITEM(version, enabled, created)                                                                                \
	"{\"id\": \"https://s.vault.azure.net/secrets/n/" version "\", \"attributes\": {\"enabled\": " enabled         \
	", \"created\": " created "}}"

static int page(const char *text, struct vault_newest *newest, char **next, struct error *err)
{
	return vault_page_parse(text, strlen(text), "s.vault.azure.net", "n", newest, next, err);
}

static void test_pages(void **state)
{
	struct vault_newest newest = { .version = "" };
	struct error err = ERROR_INIT;
	char *next = NULL;

	(void)state;
	assert_int_equal(page("{\"value\": [" ITEM("a1", "true", "5") ", " ITEM("a2", "false", "9") ", " ITEM(
				      "a3", "true", "7") ", " ITEM("a4", "true",
								   "6") "], \"nextLink\": "
									"\"https://S.vault.azure.net:443/secrets/N/"
									"versions?api-version=7.4&$skiptoken=x%3D\"}",
			      &newest, &next, &err),
			 0);
	assert_string_equal(newest.version, "a3");
	assert_string_equal(next, "api-version=7.4&$skiptoken=x%3D");
	free(next);
	/* The newest of all pages; of two at the same time the first; strange items count for nothing. */
	assert_int_equal(page("{\"value\": [" ITEM("b1", "true", "7") ", " ITEM("b2", "true", "6") ", " ITEM(
				      "..", "true", "99") ", {\"id\": \"x\"}], \"nextLink\": null}",
			      &newest, &next, &err),
			 0);
	assert_string_equal(newest.version, "a3");
	assert_null(next);
	assert_int_equal(page("{\"value\": [" ITEM("c1", "true", "8") "], \"nextLink\": \"\"}", &newest, &next, &err),
			 0);
	assert_string_equal(newest.version, "c1");
	assert_null(next);
	assert_int_equal(page("{}", &newest, &next, &err), 0);
	/* Without dates any that is enabled will do. */
	newest = (struct vault_newest){ .version = "" };
	assert_int_equal(page("{\"value\": [{\"id\": \"/d1\"}]}", &newest, &next, &err), 0);
	assert_string_equal(newest.version, "d1");
}

static void test_pages_refused(void **state)
{
	static const char *const texts[] = { "",
					     "[]",
					     "{\"value\": {}}",
					     "{\"value\": [1]}",
					     "{\"value\": [{}]}",
					     "{\"nextLink\": \"https://evil.example/secrets/n/versions?hush\"}",
					     "{\"nextLink\": \"https://s.vault.azure.net/secrets/n/versions\"}",
					     "{\"nextLink\": \"https://s.vault.azure.net/secrets/n/versions?\"}",
					     "{\"nextLink\": \"https://s.vault.azure.net/secrets/n/versions?a b\"}",
					     "{\"nextLink\": \"https://s.vault.azure.net/secrets/n/versions?a#b\"}",
					     "{\"nextLink\": \"/secrets/n/versions?hush\"}" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct vault_newest newest = { .version = "" };
		struct error err = ERROR_INIT;
		char *next = NULL;

		if (page(texts[i], &newest, &next, &err) >= 0)
			fail_msg("%s", texts[i]);
		assert_null(next);
		assert_int_equal(err.cls, ERROR_PLATFORM);
		assert_null(strstr(err.msg, "hush"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_urls),	      cmocka_unit_test(test_urls_refused),
		cmocka_unit_test(test_long_names),    cmocka_unit_test(test_reply),
		cmocka_unit_test(test_reply_refused), cmocka_unit_test(test_pages),
		cmocka_unit_test(test_pages_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
