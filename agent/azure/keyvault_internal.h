/* Between the parts of keyvault (urls, answers, calls), and for their tests. Nothing else needs it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agent/azure/keyvault.h"

/* Letters, digits, "-": names of vaults and secrets, versions. */
bool vault_is_name(const char *s, size_t len, size_t min, size_t max);

struct http_response;
struct service_words;

/* 403 SecretDisabled. */
bool vault_is_disabled(int status, const struct service_words *w);
/* An answer other than 200, and none. */
void vault_explain_status(const struct http_response *resp, const char *host, const char *name, const char *who,
			  struct vault_failure *ret);
void vault_explain_no_answer(const struct http_response *resp, const char *host, const char *name,
			     struct vault_failure *ret);

/* Whether the answer is about this secret, in this version ("": any). */
bool vault_bundle_is(const struct vault_bundle *v, const char *host, const char *name, const char *version);

/* The newest version that is enabled, of all the pages so far. */
struct vault_newest {
	char version[64]; /* "": none so far */
	usec_t created;
};

/* One page of a list of versions, which are in no order. *ret_next: the query that asks for the next page, heap; NULL:
 * this was the last. It is a query and nothing else, of a link that leads to the same list of the same vault. */
_nodiscard_ int vault_page_parse(const char *text, size_t len, const char *host, const char *name,
				 struct vault_newest *newest, char **ret_next, struct error *err);
