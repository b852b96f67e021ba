/* Protected settings as the platform encrypts them, and what else may come in their place. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/cms.h>
#include <openssl/err.h>
#include <openssl/provider.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/codec/base64.h"
#include "agent/codec/cms.h"
#include "tests/support/certificates.h"

static const char settings[] = "{\"commandToExecute\":\"echo caf\xc3\xa9\"}";

struct pair {
	EVP_PKEY *key;
	X509 *cert;
	struct buf key_pem, cert_pem;
};

static struct pair ours, theirs;

static void make_pair(struct pair *p)
{
	p->key = make_rsa_key();
	p->cert = make_certificate(p->key, "Windows Azure CRP Certificate Generator", p->key,
				   "Windows Azure CRP Certificate Generator");
	p->key_pem = BUF_SECRET_INIT(10000);
	p->cert_pem = BUF_INIT(10000);
	put_key(&p->key_pem, p->key);
	put_certificate(&p->cert_pem, p->cert);
}

static void free_pair(struct pair *p)
{
	EVP_PKEY_free(p->key);
	X509_free(p->cert);
	buf_done(&p->key_pem);
	buf_done(&p->cert_pem);
}

static int make_all(void **state)
{
	(void)state;
	make_pair(&ours);
	make_pair(&theirs);
	return 0;
}

static int free_all(void **state)
{
	(void)state;
	free_pair(&ours);
	free_pair(&theirs);
	return 0;
}

static void der_of(CMS_ContentInfo *cms, struct buf *der)
{
	BIO *bio = BIO_new(BIO_s_mem());

	assert_non_null(cms);
	take_bio(bio, i2d_CMS_bio(bio, cms), der);
	CMS_ContentInfo_free(cms);
}

static CMS_ContentInfo *encrypt(const struct pair *to, const EVP_CIPHER *cipher, const void *data, size_t len)
{
	STACK_OF(X509) *certs = sk_X509_new_null();
	BIO *in = BIO_new_mem_buf(data, (int)len);
	CMS_ContentInfo *cms;

	sk_X509_push(certs, to->cert);
	cms = CMS_encrypt(certs, in, cipher, CMS_BINARY);
	sk_X509_free(certs);
	BIO_free(in);
	return cms;
}

static int open_der(const struct buf *der, const struct pair *with, struct buf *out, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT(4 * LIMIT_CMS);

	assert_int_equal(base64_encode(der->data, der->len, &text), 0);
	return cms_decrypt(buf_str(&text), text.len, with->cert_pem.data, with->key_pem.data, out, err);
}

static void test_opens(void **state)
{
	const EVP_CIPHER *ciphers[] = {EVP_des_ede3_cbc(), EVP_aes_256_cbc(), EVP_aes_128_cbc()};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ciphers); i++) {
		_cleanup_buf_ struct buf der = BUF_INIT(10000), out = BUF_SECRET_INIT(10000);
		struct error err = ERROR_INIT;

		der_of(encrypt(&ours, ciphers[i], settings, strlen(settings)), &der);
		buf_puts(&out, ">");
		assert_int_equal(open_der(&der, &ours, &out, &err), 0);
		assert_string_equal(buf_str(&out) + 1, settings);
		assert_int_equal(ERR_peek_error(), 0);
	}
}

static void test_sizes(void **state)
{
	static char big[1000000];
	_cleanup_buf_ struct buf der = BUF_INIT(LIMIT_CMS), out = BUF_SECRET_INIT(sizeof(big)), empty = BUF_INIT(10000);
	struct error err;

	(void)state;
	memset(big, 'x', sizeof(big));
	der_of(encrypt(&ours, EVP_aes_256_cbc(), big, sizeof(big)), &der);
	assert_int_equal(open_der(&der, &ours, &out, &err), 0); /* as much as there is room for */
	assert_int_equal(out.len, sizeof(big));
	assert_memory_equal(out.data, big, sizeof(big));
	buf_done(&out);
	out.max = sizeof(big) - 1;
	assert_int_equal(open_der(&der, &ours, &out, &err), -EFBIG);
	assert_string_equal(err.msg, "protected settings: the plain text is larger than 999999 bytes");
	assert_int_equal(out.len, 0);
	for (size_t i = 0; i < out.cap; i++)
		assert_int_equal(out.data[i], 0); /* nothing of it is left */

	der_of(encrypt(&ours, EVP_des_ede3_cbc(), "", 0), &empty);
	assert_int_equal(open_der(&empty, &ours, &out, &err), 0);
	assert_int_equal(out.len, 0);
}

static void test_line_breaks(void **state)
{
	_cleanup_buf_ struct buf der = BUF_INIT(10000), text = BUF_INIT(10000), lines = BUF_INIT(10000),
				 out = BUF_SECRET_INIT(10000);
	struct error err;

	(void)state;
	der_of(encrypt(&ours, EVP_aes_256_cbc(), settings, strlen(settings)), &der);
	assert_int_equal(base64_encode(der.data, der.len, &text), 0);
	for (size_t i = 0; i < text.len; i++) {
		buf_putc(&lines, text.data[i]);
		if (i % 64 == 63)
			buf_puts(&lines, "\r\n");
	}
	assert_int_equal(cms_decrypt(lines.data, lines.len, ours.cert_pem.data, ours.key_pem.data, &out, &err), 0);
	assert_string_equal(buf_str(&out), settings);
}

static void test_wrong_key(void **state)
{
	_cleanup_buf_ struct buf der = BUF_INIT(10000), out = BUF_SECRET_INIT(10000);
	struct pair mixed = {.key_pem = theirs.key_pem, .cert_pem = ours.cert_pem};
	struct pair broken = {.key_pem = ours.cert_pem, .cert_pem = ours.cert_pem};
	struct error err;

	(void)state;
	der_of(encrypt(&ours, EVP_des_ede3_cbc(), settings, strlen(settings)), &der);
	assert_int_equal(open_der(&der, &theirs, &out, &err), -EKEYREJECTED);
	assert_string_equal(err.msg, "protected settings: it is not encrypted for this certificate");
	assert_int_equal(err.cls, ERROR_PLATFORM);
	assert_int_equal(open_der(&der, &mixed, &out, &err), -EKEYREJECTED);
	assert_string_equal(err.msg, "protected settings: the private key does not belong to the certificate");
	assert_int_equal(open_der(&der, &broken, &out, &err), -EINVAL);
	assert_string_equal(err.msg, "protected settings: the private key is not readable as PEM");
	broken.cert_pem = ours.key_pem;
	assert_int_equal(open_der(&der, &broken, &out, &err), -EINVAL);
	assert_string_equal(err.msg, "protected settings: the certificate is not readable as PEM");
	assert_int_equal(out.len, 0);
	assert_int_equal(ERR_peek_error(), 0);
}

/* An encrypted key must not make anybody ask for a password. */
static void test_encrypted_key(void **state)
{
	_cleanup_buf_ struct buf der = BUF_INIT(10000), out = BUF_SECRET_INIT(10000), pem = BUF_SECRET_INIT(10000);
	struct pair locked = {.cert_pem = ours.cert_pem};
	BIO *bio = BIO_new(BIO_s_mem());
	struct error err;

	(void)state;
	take_bio(bio, PEM_write_bio_PKCS8PrivateKey(bio, ours.key, EVP_aes_256_cbc(), "pass", 4, NULL, NULL), &pem);
	locked.key_pem = pem;
	der_of(encrypt(&ours, EVP_des_ede3_cbc(), settings, strlen(settings)), &der);
	assert_int_equal(open_der(&der, &locked, &out, &err), -EINVAL);
}

/* Cut off or changed at any byte it is refused, or (a change in the content that padding cannot show, or in a part that
 * means nothing) opens to something; it never crashes, and a failure leaves nothing. */
static void test_damaged(void **state)
{
	_cleanup_buf_ struct buf der = BUF_INIT(10000), out = BUF_SECRET_INIT(10000);
	struct error err;
	size_t len;

	(void)state;
	der_of(encrypt(&ours, EVP_aes_256_cbc(), settings, strlen(settings)), &der);
	len = der.len;
	for (der.len = 0; der.len < len; der.len++) {
		assert_int_equal(open_der(&der, &ours, &out, &err), -EBADMSG);
		assert_int_equal(out.len, 0);
	}
	for (size_t i = 0; i < len; i += 3) {
		int r;

		der.data[i] = (char)(der.data[i] ^ 0x55);
		r = open_der(&der, &ours, &out, &err);
		der.data[i] = (char)(der.data[i] ^ 0x55);
		assert_true(r == 0 || r == -EBADMSG || r == -EKEYREJECTED || r == -ENOTSUP);
		if (r < 0)
			assert_int_equal(out.len, 0);
		buf_reset(&out);
		assert_int_equal(ERR_peek_error(), 0);
	}
	assert_int_equal(open_der(&der, &ours, &out, &err), 0);
	assert_string_equal(buf_str(&out), settings);
}

static void test_not_cms(void **state)
{
	_cleanup_buf_ struct buf der = BUF_INIT(2000000), out = BUF_SECRET_INIT(10000), text = BUF_INIT(4 * LIMIT_CMS);
	_cleanup_buf_ struct buf open = BUF_INIT(10000);
	struct error err;
	BIO *in;

	(void)state;
	assert_int_equal(cms_decrypt("", 0, ours.cert_pem.data, ours.key_pem.data, &out, &err), -EBADMSG);
	assert_int_equal(cms_decrypt("{\"a\":1}", 7, ours.cert_pem.data, ours.key_pem.data, &out, &err), -EBADMSG);
	assert_string_equal(err.msg, "protected settings: not base64");

	/* a megabyte of garbage, and more than a document may have */
	for (uint32_t i = 0, x = 1; i < 1000000; i++) {
		x = x * 1103515245 + 12345;
		assert_int_equal(buf_putc(&der, (char)(x >> 24)), 0);
	}
	assert_int_equal(open_der(&der, &ours, &out, &err), -EBADMSG);
	assert_string_equal(err.msg, "protected settings: what should be CMS is not, or is cut off");
	memcpy(der.data, "\x30\x84\x7f\xff\xff\xff", 6); /* a sequence of two gigabytes */
	assert_int_equal(open_der(&der, &ours, &out, &err), -EBADMSG);
	for (size_t i = 0; i <= LIMIT_CMS; i++)
		assert_int_equal(buf_putc(&text, 'A'), 0);
	assert_int_equal(cms_decrypt(text.data, text.len, ours.cert_pem.data, ours.key_pem.data, &out, &err), -EFBIG);

	/* CMS of another kind */
	buf_reset(&der);
	in = BIO_new_mem_buf("x", 1);
	der_of(CMS_data_create(in, CMS_BINARY), &der);
	BIO_free(in);
	assert_int_equal(open_der(&der, &ours, &out, &err), -EBADMSG);
	assert_string_equal(err.msg, "protected settings: the CMS holds no enveloped data");

	buf_reset(&der);
	der_of(encrypt(&ours, EVP_aes_256_cbc(), settings, strlen(settings)), &der);
	assert_int_equal(open_der(&der, &ours, &open, &err), -EINVAL); /* not into a buffer that is not erased */
	assert_int_equal(open.len, 0);
}

/* RC2 comes with OpenSSL's legacy provider only: encrypted with it, opened without. */
static void test_refused_cipher(void **state)
{
	_cleanup_buf_ struct buf der = BUF_INIT(10000), out = BUF_SECRET_INIT(10000);
	OSSL_PROVIDER *legacy = OSSL_PROVIDER_load(NULL, "legacy"), *usual = OSSL_PROVIDER_load(NULL, "default");
	struct error err;
	int r;

	(void)state;
	if (!legacy)
		skip();
	der_of(encrypt(&ours, EVP_rc2_cbc(), settings, strlen(settings)), &der);
	OSSL_PROVIDER_unload(legacy);
	r = open_der(&der, &ours, &out, &err);
	assert_int_equal(r, -ENOTSUP);
	assert_non_null(strstr(err.msg, "RC2"));
	assert_int_equal(err.cls, ERROR_SYSTEM);
	OSSL_PROVIDER_unload(usual);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_opens),         cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_line_breaks),   cmocka_unit_test(test_wrong_key),
		cmocka_unit_test(test_encrypted_key), cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_not_cms),       cmocka_unit_test(test_refused_cipher),
	};

	return cmocka_run_group_tests(tests, make_all, free_all);
}
