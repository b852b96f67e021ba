/* CMS EnvelopedData as the platform sends protected settings (extension-contract.md 3.3). No I/O: the caller brings certificate and key. */
#pragma once

#include <stddef.h>

#include "agent/base/buf.h"
#include "agent/base/error.h"

/* Decrypts base64 DER CMS for the recipient certificate and key (PEM texts). The plain bytes are appended to
 * `out`, which must be a secret buffer; on failure nothing is. Contents in 3DES or AES. -EBADMSG: not CMS, or cut
 * off; -EFBIG: more than LIMIT_CMS, or than `out` takes; -EKEYREJECTED: this key does not open it, or its content is
 * damaged; -EINVAL: certificate or key unreadable; -ENOTSUP: a cipher this OpenSSL refuses (named).
 * There is no integrity in EnvelopedData: damage may also open to garbage, so the result must be parsed strictly. */
_nodiscard_ int cms_decrypt(const char *base64, size_t len, const char *certificate_pem, const char *key_pem,
			    struct buf *out, struct error *err);
