/* Blob storage: what a storage account's key is used for (custom-script.md 2). */
#pragma once

#include "agent/base/buf.h"
#include "agent/base/error.h"
#include "agent/base/time.h"

/* Appends `uri` as a URL that the key has signed for reading until `until_wall`: a service SAS of version 2018-03-28. The
 * host must be a blob endpoint (ACCOUNT.blob.…); the account is replaced by `account`, the scheme by https, a query goes.
 * -EINVAL: not such a URI, or the key is not base64. Messages show neither query nor key. */
_nodiscard_ int blob_sign(const char *uri, const char *account, const char *key, usec_t until_wall, struct buf *out,
			  struct error *err);
