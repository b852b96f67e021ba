/* Any bytes as a vault's answers, and as the url of a secret. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/azure/keyvault_internal.h"
#include "agent/base/cleanup.h"
#include "agent/base/str.h"

static void url(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = strndup((const char *)data, size);
	char host[256], name[256], version[256], resource[256];
	struct error err = ERROR_INIT;

	if (!text)
		return;
	if (vault_url_parse(text, NULL, host, name, version, resource, &err) < 0) {
		assert(*err.msg && utf8_valid(err.msg, strlen(err.msg)));
		return;
	}
	assert(str_starts(resource, "https://vault.") && str_ends(host, resource + strlen("https://")) && *name);
	assert(strlen(version) == 0 || strlen(version) == 32);
}

static void page(const uint8_t *data, size_t size)
{
	struct vault_newest newest = { .version = "" };
	_cleanup_free_ char *next = NULL;
	struct error err = ERROR_INIT;

	if (vault_page_parse((const char *)data, size, "shop.vault.azure.net", "web", &newest, &next, &err) < 0) {
		assert(!next && err.code < 0 && *err.msg);
		return;
	}
	assert(!strpbrk(newest.version, "/.?&"));
	assert(!next || (*next && !strpbrk(next, " \r\n#")));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vault_bundle *b = NULL;
	struct vault_secret s;
	struct error err = ERROR_INIT;

	url(data, size);
	page(data, size);
	if (vault_reply_parse((const char *)data, size, &b, &s, &err) < 0) {
		assert(!b && err.code < 0 && *err.msg);
		return 0;
	}
	assert(s.value && strlen(s.value) == s.len && *s.version && !strchr(s.version, '/') && !strchr(s.version, '.'));
	assert(utf8_valid(s.content_type, strlen(s.content_type)) && !strpbrk(s.content_type, "\r\n"));
	(void)vault_bundle_is(b, "shop.vault.azure.net", "web", "");
	vault_bundle_free(b);
	return 0;
}
