/* Makes keys and certificates for tests, with libcrypto in the test program: fast, and no files. */
#pragma once

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/buf.h"

static inline EVP_PKEY *make_ec_key(void)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");

	assert_non_null(key);
	return key;
}

static inline EVP_PKEY *make_rsa_key(void)
{
	EVP_PKEY *key = EVP_RSA_gen(2048);

	assert_non_null(key);
	return key;
}

/* A certificate for `key` named `subject`, signed by `issuer_key` named `issuer`; from 2026-01-01 to 2027-01-01. */
static inline X509 *make_certificate(EVP_PKEY *key, const char *subject, EVP_PKEY *issuer_key, const char *issuer)
{
	static long serial;
	X509 *cert = X509_new();

	assert_non_null(cert);
	X509_set_version(cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), ++serial);
	ASN1_TIME_set_string(X509_getm_notBefore(cert), "260101000000Z");
	ASN1_TIME_set_string(X509_getm_notAfter(cert), "270101000000Z");
	X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_UTF8, (const unsigned char *)subject, -1,
				   -1, 0);
	X509_NAME_add_entry_by_txt(X509_get_issuer_name(cert), "CN", MBSTRING_UTF8, (const unsigned char *)issuer, -1,
				   -1, 0);
	X509_set_pubkey(cert, key);
	assert_true(X509_sign(cert, issuer_key, EVP_sha256()) > 0);
	return cert;
}

static inline void take_bio(BIO *bio, int written, struct buf *out)
{
	char *text;
	long len = BIO_get_mem_data(bio, &text);

	assert_int_equal(written, 1);
	assert_int_equal(buf_append(out, text, (size_t)len), 0);
	BIO_free(bio);
}

static inline void put_certificate(struct buf *out, X509 *cert)
{
	BIO *bio = BIO_new(BIO_s_mem());

	take_bio(bio, PEM_write_bio_X509(bio, cert), out);
}

static inline void put_key(struct buf *out, EVP_PKEY *key)
{
	BIO *bio = BIO_new(BIO_s_mem());

	take_bio(bio, PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL), out);
}

static inline void put_traditional_key(struct buf *out, EVP_PKEY *key)
{
	BIO *bio = BIO_new(BIO_s_mem());

	take_bio(bio, PEM_write_bio_PrivateKey_traditional(bio, key, NULL, NULL, 0, NULL, NULL), out);
}
