/* Opens the platform's protected settings. */
#include "agent/codec/cms.h"

#include <errno.h>
#include <limits.h>
#include <openssl/cms.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdio.h>

#include "agent/base/limits.h"
#include "agent/codec/base64.h"

#define CHUNK 4096

DEFINE_CLEANUP(BIO *, BIO_free_all)
DEFINE_CLEANUP(CMS_ContentInfo *, CMS_ContentInfo_free)
DEFINE_CLEANUP(X509 *, X509_free)
DEFINE_CLEANUP(EVP_PKEY *, EVP_PKEY_free)

/* Without this OpenSSL would ask for a password on the terminal. */
static int no_password(char *out, int size, int writing, void *userdata)
{
	(void)out;
	(void)size;
	(void)writing;
	(void)userdata;
	return -1;
}

/* What OpenSSL complained about last; its text names a cipher that is missing. Empties its queue. */
static bool refused_algorithm(char *text, size_t size)
{
	unsigned long code;
	const char *data;
	bool found = false;
	int flags;

	while ((code = ERR_get_error_all(NULL, NULL, NULL, &data, &flags))) {
		int reason = ERR_GET_REASON(code);

		if (found)
			continue;
		if (reason == ERR_R_UNSUPPORTED ||
		    (ERR_GET_LIB(code) == ERR_LIB_CMS &&
		     (reason == CMS_R_UNKNOWN_CIPHER || reason == CMS_R_UNSUPPORTED_CONTENT_ENCRYPTION_ALGORITHM)) ||
		    (ERR_GET_LIB(code) == ERR_LIB_EVP && reason == EVP_R_UNSUPPORTED_ALGORITHM)) {
			found = true;
			(void)snprintf(text, size, "%s",
				       flags & ERR_TXT_STRING && *data ? data : ERR_reason_error_string(code));
		}
	}
	return found;
}

static int read_pair(const char *certificate_pem, const char *key_pem, X509 **ret_cert, EVP_PKEY **ret_key,
		     struct error *err)
{
	_cleanup_(BIO_free_allp) BIO *cert_bio = BIO_new_mem_buf(certificate_pem, -1);
	_cleanup_(BIO_free_allp) BIO *key_bio = BIO_new_mem_buf(key_pem, -1);
	_cleanup_(X509_freep) X509 *cert = NULL;
	_cleanup_(EVP_PKEY_freep) EVP_PKEY *key = NULL;

	if (!cert_bio || !key_bio)
		return error_oom(err);
	cert = PEM_read_bio_X509(cert_bio, NULL, no_password, NULL);
	if (!cert)
		return error_set(err, ERROR_PLATFORM, -EINVAL, "the certificate is not readable as PEM");
	key = PEM_read_bio_PrivateKey(key_bio, NULL, no_password, NULL);
	if (!key)
		return error_set(err, ERROR_PLATFORM, -EINVAL, "the private key is not readable as PEM");
	if (X509_check_private_key(cert, key) != 1)
		return error_set(err, ERROR_PLATFORM, -EKEYREJECTED,
				 "the private key does not belong to the certificate");
	*ret_cert = TAKE_PTR(cert);
	*ret_key = TAKE_PTR(key);
	return 0;
}

static int read_cms(const struct buf *der, CMS_ContentInfo **ret, struct error *err)
{
	_cleanup_(CMS_ContentInfo_freep) CMS_ContentInfo *cms = NULL;
	_cleanup_(BIO_free_allp) BIO *bio = BIO_new_mem_buf(buf_str(der), (int)der->len);

	if (!bio)
		return error_oom(err);
	cms = d2i_CMS_bio(bio, NULL);
	if (!cms)
		return error_set(err, ERROR_PLATFORM, -EBADMSG, "what should be CMS is not, or is cut off");
	if (OBJ_obj2nid(CMS_get0_type(cms)) != NID_pkcs7_enveloped)
		return error_set(err, ERROR_PLATFORM, -EBADMSG, "the CMS holds no enveloped data");
	*ret = TAKE_PTR(cms);
	return 0;
}

/* Straight from the cipher into the caller's buffer: CMS_decrypt() would leave plain text on its stack. */
static int read_plain(BIO *bio, struct buf *out)
{
	for (;;) {
		size_t room = out->max - out->len;
		int r = buf_reserve(out, room < CHUNK ? room : CHUNK);
		char probe;
		int n;

		if (r < 0)
			return r;
		n = room ? BIO_read(bio, out->data + out->len, room < CHUNK ? (int)room : CHUNK)
			 : BIO_read(bio, &probe, 1);
		if (n <= 0)
			break;
		if (!room)
			return -EFBIG;
		out->len += (size_t)n;
		buf_terminate(out);
	}
	if (BIO_method_type(bio) == BIO_TYPE_CIPHER && BIO_get_cipher_status(bio) != 1)
		return -EBADMSG;
	return 0;
}

static int decrypt(CMS_ContentInfo *cms, EVP_PKEY *key, X509 *cert, struct buf *out, struct error *err)
{
	_cleanup_(BIO_free_allp) BIO *bio = NULL;
	char text[160];
	size_t before = out->len;
	int r;

	if (CMS_decrypt_set1_pkey(cms, key, cert) == 1)
		bio = CMS_dataInit(cms, NULL);
	if (!bio) {
		if (refused_algorithm(text, sizeof(text)))
			return error_set(err, ERROR_SYSTEM, -ENOTSUP, "OpenSSL on this machine refuses the cipher: %s",
					 text);
		return error_set(err, ERROR_PLATFORM, -EKEYREJECTED, "it is not encrypted for this certificate");
	}
	r = read_plain(bio, out);
	if (r == 0)
		return 0;
	if (out->len > before)
		OPENSSL_cleanse(out->data + before, out->len - before);
	out->len = before;
	buf_terminate(out);
	if (r == -EFBIG)
		return error_set(err, ERROR_PLATFORM, r, "the plain text is larger than %zu bytes", out->max - before);
	/* A key that does not fit shows only here: telling it earlier would make an oracle. */
	if (r == -EBADMSG)
		return error_set(err, ERROR_PLATFORM, -EKEYREJECTED, "the key does not open it, or it is damaged");
	return error_errno(err, r, "cannot keep the plain text");
}

int cms_decrypt(const char *base64, size_t len, const char *certificate_pem, const char *key_pem, struct buf *out,
		struct error *err)
{
	_cleanup_(CMS_ContentInfo_freep) CMS_ContentInfo *cms = NULL;
	_cleanup_(X509_freep) X509 *cert = NULL;
	_cleanup_(EVP_PKEY_freep) EVP_PKEY *key = NULL;
	_cleanup_buf_ struct buf der = BUF_INIT(LIMIT_CMS);
	int r;

	if (!out->secret)
		return error_set(err, ERROR_SYSTEM, -EINVAL, "protected settings must go into a secret buffer");
	if (len > LIMIT_CMS)
		return error_set(err, ERROR_PLATFORM, -EFBIG, "protected settings: more than %lu bytes", LIMIT_CMS);
	r = base64_decode(base64, len, true, &der, err);
	if (r == -EINVAL)
		return error_set(err, ERROR_PLATFORM, -EBADMSG, "protected settings: not base64");
	if (r == 0)
		r = read_cms(&der, &cms, err);
	if (r == 0)
		r = read_pair(certificate_pem, key_pem, &cert, &key, err);
	if (r == 0)
		r = decrypt(cms, key, cert, out, err);
	ERR_clear_error();
	return r < 0 ? error_wrap(err, r, "protected settings") : 0;
}
