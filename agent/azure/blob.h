/* Blob storage: whose right a request to a URI uses, how a storage account's key signs one, what a refusal means. */
#pragma once

#include <stdbool.h>

#include "agent/base/buf.h"
#include "agent/base/error.h"
#include "agent/base/time.h"

struct identity; /* agent/core/settings_common.h */

/* Borrowed. A key and an identity exclude each other. */
struct blob_credentials {
	const char *account, *key;	 /* NULL: none */
	const struct identity *identity; /* NULL: none; without a member: the system's */
	char *const *hosts;		 /* names of storage besides NAME.blob.…: custom domains */
	size_t n_hosts;
	bool signature_first; /* what the URI brings along goes before the key: Custom Script does not do so with its files */
};

enum blob_right {
	BLOB_ANONYMOUS,
	BLOB_SIGNATURE, /* the URI's own */
	BLOB_KEY,	/* a signature made with the account's key */
	BLOB_IDENTITY,	/* a token; it goes to blob hosts only, and only encrypted */
};

/* NAME.blob.REST with at least two labels in REST, also NAME.zNN.blob.storage.azure.net and private links, in every cloud;
 * or one of the further names. */
bool blob_is_host(const char *host, const struct blob_credentials *c);
enum blob_right blob_right_of(const char *uri, const struct blob_credentials *c);

/* Appends `uri` as a URL that the key has signed until `until_wall` for what `permissions` allow ("r", "racw"): a service
 * SAS of version 2018-03-28. Of a blob host the account is replaced; the scheme becomes https, a query goes. -EINVAL: not
 * such a URI, or the key is not base64. Messages show neither query nor key. */
_nodiscard_ int blob_sign(const char *uri, const struct blob_credentials *c, const char *permissions, usec_t until_wall,
			  struct buf *out, struct error *err);

struct blob_refusal {
	const char *uri;
	enum blob_right right;
	const char *who; /* the identity, as identity.h names it */
	bool writing;
	long status;
	const char *code; /* x-ms-error-code, or NULL */
};
/* What it means and what to do, as a phrase; "" when there is nothing to say. Never with a query. */
void blob_advise(const struct blob_refusal *r, char *out, size_t size);
