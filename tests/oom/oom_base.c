/*
 * Out-of-memory sweep over base and codec: the n-th allocation fails, for n = 0, 1, ... until a run gets by without.
 * Our own allocations are wrapped by the linker; OpenSSL's go through the functions it lets a program set.
 */
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/cms.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/secret.h"
#include "agent/base/str.h"
#include "agent/codec/base64.h"
#include "agent/codec/cms.h"
#include "agent/codec/digest.h"
#include "agent/codec/gzip.h"
#include "agent/codec/pkcs12.h"
#include "agent/codec/uri.h"
#include "agent/codec/x509.h"
#include "tests/support/failing.h"
#include "tests/support/certificates.h"

static long tls_fail_at = -1, tls_count; /* of OpenSSL's */

static void *tls_malloc(size_t size, const char *file, int line)
{
	(void)file;
	(void)line;
	return tls_count++ == tls_fail_at ? NULL : __real_malloc(size);
}

static void *tls_realloc(void *p, size_t size, const char *file, int line)
{
	(void)file;
	(void)line;
	return tls_count++ == tls_fail_at ? NULL : __real_realloc(p, size);
}

static void tls_free(void *p, const char *file, int line)
{
	(void)file;
	(void)line;
	free(p);
}

/* What the sweeps read; made before anything fails. */
static struct buf pem, certificate_pem, key_pem, cms_text;
static const unsigned char gzip[] = {0x1f, 0x8b, 8,    0,    0,    0,    0, 0, 0, 3, 0x4b,
				     4,    0,    0x43, 0xbe, 0xb7, 0xe8, 1, 0, 0, 0};

static int run_strings(struct error *err)
{
	static const char *const v[] = {"a", "b", NULL};
	_cleanup_strv_ char **copy = strv_copy(v);
	_cleanup_free_ char *clean = utf8_clean("\xff", 1), *s = NULL;
	_cleanup_secret_ struct secret secret = {0};

	(void)err;
	if (!copy || !clean)
		return -ENOMEM;
	if (str_set(&s, "x") < 0)
		return -ENOMEM;
	return secret_set(&secret, "x", 1);
}

static int run_files(struct error *err)
{
	_cleanup_strv_ char **v = NULL;
	_cleanup_buf_ struct buf b = BUF_INIT(1 << 20);
	int r;

	r = fs_list("/proc/self", 1000, &v, err); /* more than one growth */
	if (r == 0)
		r = fs_read("/proc/self/status", 1 << 20, &b, err);
	return r;
}

static int run_uri(struct error *err)
{
	_cleanup_buf_ struct buf shown = BUF_INIT(1000);
	struct uri u;
	int r;

	r = uri_parse("https://host/path?query", &u, err);
	if (r < 0)
		return r;
	uri_done(&u);
	r = uri_redact("https://host/path?query", false, &shown);
	return r < 0 ? error_errno(err, r, "redact") : 0;
}

static int run_codecs(struct error *err)
{
	_cleanup_buf_ struct buf plain = BUF_INIT(100), zipped = BUF_INIT(100);
	char hex[SHA256_HEX_MAX];
	int r;

	r = gzip_inflate(gzip, sizeof(gzip), &plain, err);
	if (r == 0)
		r = base64_decode("Zm9v", 4, false, &zipped, err);
	if (r == 0)
		r = sha256_hex("x", 1, hex);
	return r;
}

static int run_x509(struct error *err)
{
	_cleanup_(x509_bundle_freep) struct x509_bundle *b = NULL;
	_cleanup_buf_ struct buf out = BUF_SECRET_INIT(100000);
	int r;

	r = x509_bundle_parse(pem.data, pem.len, &b, err);
	if (r == 0)
		r = x509_write_fullchain(b, &out);
	if (r == 0)
		r = x509_write_key(b, &out);
	return r;
}

/* Out and in again. */
static int run_pkcs12(struct error *err)
{
	_cleanup_(x509_bundle_freep) struct x509_bundle *b = NULL, *again = NULL;
	_cleanup_buf_ struct buf der = BUF_SECRET_INIT(100000), text = BUF_SECRET_INIT(100000);
	int r;

	r = x509_bundle_parse(pem.data, pem.len, &b, err);
	if (r == 0)
		r = pkcs12_write(b, "name", NULL, &der);
	if (r == 0)
		r = base64_encode(der.data, der.len, &text);
	if (r == 0)
		r = pkcs12_parse_text(text.data, text.len, &again, err);
	return r;
}

static int run_cms(struct error *err)
{
	_cleanup_buf_ struct buf out = BUF_SECRET_INIT(10000);
	int r = cms_decrypt(cms_text.data, cms_text.len, certificate_pem.data, key_pem.data, &out, err);

	/* OpenSSL answers a failure of RSA with a random content key, which now and then makes valid padding. */
	if (r < 0)
		assert_int_equal(out.len, 0);
	else if (tls_fail_at < 0)
		assert_string_equal(buf_str(&out), "settings");
	return r;
}

static void sweep(int (*run)(struct error *err))
{
	for (long n = 0;; n++) {
		struct error err = ERROR_INIT;
		int r;

		count = 0;
		fail_at = n;
		r = run(&err);
		fail_at = -1;
		if (count <= n) {
			assert_int_equal(r, 0);
			assert_true(n > 0);
			return;
		}
		assert_int_equal(r, -ENOMEM);
	}
}

/* OpenSSL gets by without some allocations and has its own words for the others: no crash, no leak, an error or the
 * right result. `step` leaves some out, because there are thousands. */
static void sweep_tls(int (*run)(struct error *err), long step)
{
	for (long n = 0;; n += step) {
		struct error err = ERROR_INIT;
		int r;

		tls_count = 0;
		tls_fail_at = n;
		r = run(&err);
		tls_fail_at = -1;
		assert_true(r <= 0);
		ERR_clear_error();
		if (tls_count <= n) {
			assert_int_equal(r, 0);
			return;
		}
	}
}

static void test_ours(void **state)
{
	(void)state;
	sweep(run_strings);
	sweep(run_files);
	sweep(run_uri);
	sweep(run_codecs);
	sweep(run_x509);
	sweep(run_pkcs12);
	sweep(run_cms);
}

static void test_tls(void **state)
{
	(void)state;
	sweep_tls(run_x509, 7);
	sweep_tls(run_pkcs12, 151);
	sweep_tls(run_cms, 7);
}

static int make_all(void **state)
{
	EVP_PKEY *keys[2] = {make_ec_key(), make_ec_key()}, *rsa = make_rsa_key();
	X509 *root = make_certificate(keys[1], "Root", keys[1], "Root");
	X509 *leaf = make_certificate(keys[0], "Leaf", keys[1], "Root");
	X509 *recipient = make_certificate(rsa, "R", rsa, "R");
	STACK_OF(X509) *recipients = sk_X509_new_null();
	BIO *in = BIO_new_mem_buf("settings", 8), *bio = BIO_new(BIO_s_mem());
	_cleanup_buf_ struct buf der = BUF_INIT(10000);
	CMS_ContentInfo *cms;

	(void)state;
	pem = BUF_SECRET_INIT(100000);
	certificate_pem = BUF_INIT(10000);
	key_pem = BUF_SECRET_INIT(10000);
	cms_text = BUF_INIT(10000);
	put_key(&pem, keys[0]);
	put_certificate(&pem, root);
	put_certificate(&pem, leaf);
	put_certificate(&certificate_pem, recipient);
	put_key(&key_pem, rsa);
	sk_X509_push(recipients, recipient);
	cms = CMS_encrypt(recipients, in, EVP_aes_256_cbc(), CMS_BINARY);
	assert_non_null(cms);
	take_bio(bio, i2d_CMS_bio(bio, cms), &der);
	assert_int_equal(base64_encode(der.data, der.len, &cms_text), 0);
	CMS_ContentInfo_free(cms);
	BIO_free(in);
	sk_X509_free(recipients);
	X509_free(root);
	X509_free(leaf);
	X509_free(recipient);
	EVP_PKEY_free(keys[0]);
	EVP_PKEY_free(keys[1]);
	EVP_PKEY_free(rsa);
	return run_x509(NULL) < 0 || run_pkcs12(NULL) < 0 || run_cms(NULL) < 0; /* what OpenSSL keeps for ever, it has by now */
}

static int free_all(void **state)
{
	(void)state;
	buf_done(&pem);
	buf_done(&certificate_pem);
	buf_done(&key_pem);
	buf_done(&cms_text);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_ours), cmocka_unit_test(test_tls)};

	if (CRYPTO_set_mem_functions(tls_malloc, tls_realloc, tls_free) != 1)
		return 1;
	return cmocka_run_group_tests(tests, make_all, free_all);
}
