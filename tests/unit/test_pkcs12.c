/* PKCS#12 as vaults and people make it; what it may cost; what stays behind in memory. */
#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pkcs12.h>
#include <openssl/provider.h>

#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/base/time.h"
#include "agent/codec/base64.h"
#include "agent/codec/memory.h"
#include "agent/codec/pkcs12.h"
#include "tests/support/certificates.h"

#define ROOM	  (256UL * 1024)
#define DEFAULTS  2048
#define NOTICED	  99999 /* 02 03 01 86 9f */
#define NO_CIPHER (-1)

static EVP_PKEY *ec, *rsa, *issuer_key;
static X509 *ec_leaf, *rsa_leaf, *issuer;
static OSSL_LIB_CTX *legacy;
static OSSL_PROVIDER *providers[2];

/* ---- what is given back to the heap, by our libraries and by OpenSSL, which allocates through ours ---- */

static const void *needle;
static size_t needle_len;
static unsigned seen;

void __real_free(void *p);
void __wrap_free(void *p);
void __wrap_free(void *p)
{
	if (p && needle && memmem(p, malloc_usable_size(p), needle, needle_len))
		seen++;
	__real_free(p);
}

static void watch_for(const void *bytes, size_t len)
{
	needle = bytes;
	needle_len = len;
	seen = 0;
}

/* ---- vectors ---- */

struct vector {
	int key_nid, cert_nid, iterations, mac_iterations; /* of the MAC: -1 none */
	const char *password;
};

static void make(const struct vector *v, EVP_PKEY *key, X509 *leaf, struct buf *out)
{
	STACK_OF(X509) *chain = sk_X509_new_null();
	unsigned char *der = NULL;
	PKCS12 *p;
	int len;

	sk_X509_push(chain, issuer);
	sk_X509_push(chain, leaf); /* twice in it */
	p = PKCS12_create_ex(v->password, "name", key, leaf, chain, v->key_nid, v->cert_nid, v->iterations,
			     v->mac_iterations, 0, legacy, NULL);
	assert_non_null(p);
	len = i2d_PKCS12(p, &der);
	assert_true(len > 0);
	assert_int_equal(buf_append(out, der, (size_t)len), 0);
	OPENSSL_clear_free(der, (size_t)len);
	PKCS12_free(p);
	sk_X509_free(chain);
}

static int make_all(void **state)
{
	(void)state;
	legacy = OSSL_LIB_CTX_new();
	providers[0] = OSSL_PROVIDER_load(legacy, "default");
	providers[1] = OSSL_PROVIDER_load(legacy, "legacy");
	assert_true(providers[0] && providers[1]);
	ec = make_ec_key();
	rsa = make_rsa_key();
	issuer_key = make_ec_key();
	ec_leaf = make_certificate(ec, "www.example", issuer_key, "Issuer");
	rsa_leaf = make_certificate(rsa, "rsa.example", issuer_key, "Issuer");
	issuer = make_certificate(issuer_key, "Issuer", issuer_key, "Issuer");
	return 0;
}

static int free_all(void **state)
{
	(void)state;
	X509_free(ec_leaf);
	X509_free(rsa_leaf);
	X509_free(issuer);
	EVP_PKEY_free(ec);
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(issuer_key);
	OSSL_PROVIDER_unload(providers[0]);
	OSSL_PROVIDER_unload(providers[1]);
	OSSL_LIB_CTX_free(legacy);
	return 0;
}

/* The bundle is this key, its certificate and the issuer. */
static void expect_bundle(const struct x509_bundle *b, EVP_PKEY *key, X509 *leaf)
{
	_cleanup_buf_ struct buf got = BUF_SECRET_INIT(ROOM), expected = BUF_SECRET_INIT(ROOM);
	struct x509_facts facts;

	put_certificate(&expected, leaf);
	put_certificate(&expected, issuer);
	put_key(&expected, key);
	assert_int_equal(x509_write_fullchain(b, &got), 0);
	assert_int_equal(x509_write_key(b, &got), 0);
	assert_string_equal(buf_str(&got), buf_str(&expected));
	x509_bundle_facts(b, &facts);
	assert_true(facts.complete);
}

static void expect_refused(const struct buf *der, const char *password, int code, const char *why)
{
	struct x509_bundle *b = NULL;
	struct error err = ERROR_INIT;
	int r = pkcs12_parse(buf_str(der), der->len, password, &b, &err);

	if (r != code || !strstr(err.msg, why))
		fail_msg("%d, expected %d: %s", r, code, err.msg);
	assert_true(str_starts(err.msg, "certificate bundle: "));
	assert_int_equal(err.cls, ERROR_USER);
	assert_null(b);
	assert_int_equal(ERR_peek_error(), 0);
}

static void expect_read(const struct buf *der, const char *password, EVP_PKEY *key, X509 *leaf)
{
	_cleanup_(x509_bundle_freep) struct x509_bundle *b = NULL;
	struct error err = ERROR_INIT;

	if (pkcs12_parse(buf_str(der), der->len, password, &b, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(ERR_peek_error(), 0);
	expect_bundle(b, key, leaf);
}

/* ---- reading ---- */

static const struct vector vectors[] = {
	/* as Key Vault makes it */
	{ NID_pbe_WithSHA1And3_Key_TripleDES_CBC, NID_pbe_WithSHA1And3_Key_TripleDES_CBC, 2000, 2000, "" },
	/* as Windows and OpenSSL 1 did */
	{ NID_pbe_WithSHA1And3_Key_TripleDES_CBC, NID_pbe_WithSHA1And40BitRC2_CBC, DEFAULTS, 1, "" },
	{ NID_pbe_WithSHA1And40BitRC2_CBC, NID_pbe_WithSHA1And40BitRC2_CBC, 1, 1, "" },
	{ NID_pbe_WithSHA1And128BitRC2_CBC, NID_pbe_WithSHA1And3_Key_TripleDES_CBC, DEFAULTS, DEFAULTS, "" },
	{ NID_pbe_WithSHA1And128BitRC4, NID_pbe_WithSHA1And40BitRC4, DEFAULTS, DEFAULTS, "" },
	{ NID_pbeWithMD5AndDES_CBC, NID_aes_256_cbc, DEFAULTS, DEFAULTS, "" },
	{ NID_aes_256_cbc, NID_des_cbc, DEFAULTS, DEFAULTS, "" },
	/* as OpenSSL 3 does */
	{ NID_aes_256_cbc, NID_aes_256_cbc, DEFAULTS, DEFAULTS, "" },
	{ NID_aes_128_cbc, NID_aes_128_cbc, 1, DEFAULTS, "" },
	/* certificates not encrypted; nothing encrypted; without a MAC */
	{ NID_aes_256_cbc, NO_CIPHER, DEFAULTS, DEFAULTS, "" },
	{ NO_CIPHER, NO_CIPHER, DEFAULTS, DEFAULTS, "" },
	{ NID_aes_256_cbc, NID_aes_256_cbc, DEFAULTS, -1, "" },
	{ NID_pbe_WithSHA1And3_Key_TripleDES_CBC, NID_pbe_WithSHA1And40BitRC2_CBC, DEFAULTS, -1, "" },
	{ NO_CIPHER, NO_CIPHER, DEFAULTS, -1, "" },
	/* a key in a safe that is encrypted */
	{ NO_CIPHER, NID_aes_256_cbc, DEFAULTS, DEFAULTS, "" },
};

static void test_every_way_of_writing(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		static const char *const passwords[] = { NULL, "", "a word \xc3\xbc" };

		for (size_t n = 0; n < ARRAY_SIZE(passwords); n++) {
			_cleanup_buf_ struct buf der = BUF_SECRET_INIT(ROOM);
			struct vector v = vectors[i];

			v.password = passwords[n];
			make(&v, n ? ec : rsa, n ? ec_leaf : rsa_leaf, &der);
			expect_read(&der, passwords[n], n ? ec : rsa, n ? ec_leaf : rsa_leaf);
			/* However it was said that there is none. */
			if (n < 2)
				expect_read(&der, n ? NULL : "", n ? ec : rsa, n ? ec_leaf : rsa_leaf);
		}
	}
	assert_int_equal(OSSL_PROVIDER_available(NULL, "legacy"), 0);
}

static void test_text(void **state)
{
	_cleanup_buf_ struct buf der = BUF_SECRET_INIT(ROOM), text = BUF_SECRET_INIT(ROOM),
				 broken = BUF_SECRET_INIT(ROOM);
	struct x509_bundle *b = NULL;
	struct error err = ERROR_INIT;

	(void)state;
	make(&vectors[0], ec, ec_leaf, &der);
	assert_int_equal(base64_encode(der.data, der.len, &text), 0);
	assert_int_equal(pkcs12_parse_text(text.data, text.len, &b, &err), 0);
	expect_bundle(b, ec, ec_leaf);
	x509_bundle_free(b);
	for (size_t i = 0; i < text.len; i++) {
		if (i && i % 64 == 0)
			buf_puts(&broken, "\r\n");
		buf_putc(&broken, text.data[i]);
	}
	b = NULL;
	assert_int_equal(pkcs12_parse_text(broken.data, broken.len, &b, &err), 0);
	x509_bundle_free(b);
	b = NULL;
	assert_int_equal(pkcs12_parse_text("-----BEGIN", 10, &b, &err), -EBADMSG);
	assert_string_equal(err.msg, "certificate bundle: not readable as PKCS#12, since it is no base64");
	assert_int_equal(pkcs12_parse_text("", 0, &b, &err), -EBADMSG);
	buf_reset(&broken);
	for (size_t i = 0; i < LIMIT_PKCS12 / 3 + 1; i++)
		buf_puts(&broken, "AAAA");
	assert_int_equal(pkcs12_parse_text(broken.data, broken.len, &b, &err), -E2BIG);
	assert_null(b);
}

static void test_passwords_that_are_others(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		_cleanup_buf_ struct buf der = BUF_SECRET_INIT(ROOM);
		struct vector v = vectors[i];

		/* What is neither sealed nor encrypted has none. */
		if (v.mac_iterations < 0)
			continue;
		v.password = "secret";
		make(&v, ec, ec_leaf, &der);
		expect_refused(&der, NULL, -EACCES, "the PKCS#12 has a password, or was changed");
		expect_refused(&der, "Secret", -EACCES, "the PKCS#12 has a password, or was changed");
	}
}

static void test_not_a_bundle(void **state)
{
	static const struct vector v = { NID_aes_256_cbc, NID_aes_256_cbc, DEFAULTS, DEFAULTS, "" };
	_cleanup_buf_ struct buf der = BUF_SECRET_INIT(ROOM), large = BUF_INIT(2 * LIMIT_PKCS12);
	STACK_OF(X509) *chain = sk_X509_new_null();
	unsigned char *bytes = NULL;
	PKCS12 *p;
	int len;

	(void)state;
	buf_puts(&der, "hello");
	expect_refused(&der, NULL, -EBADMSG, "not readable as PKCS#12");
	while (large.len <= LIMIT_PKCS12)
		buf_puts(&large, "0123456789abcdef");
	expect_refused(&large, NULL, -E2BIG, "more than 98304 bytes");
	/* certificates only */
	buf_reset(&der);
	sk_X509_push(chain, issuer);
	p = PKCS12_create("", NULL, NULL, NULL, chain, -1, -1, 1, 1, 0);
	len = i2d_PKCS12(p, &bytes);
	buf_append(&der, bytes, (size_t)len);
	OPENSSL_free(bytes);
	PKCS12_free(p);
	sk_X509_free(chain);
	expect_refused(&der, NULL, -EBADMSG, "no private key");
	/* cut off anywhere, and with any byte changed: refused, or (in a name that nobody reads) the same */
	buf_reset(&der);
	make(&v, ec, ec_leaf, &der);
	for (size_t i = 0; i < der.len; i += i < 200 ? 1 : 37) {
		struct x509_bundle *b = NULL;

		assert_true(pkcs12_parse(der.data, i, NULL, &b, NULL) < 0);
		assert_null(b);
	}
	for (size_t i = 0; i < der.len; i += i < 200 ? 3 : 41) {
		_cleanup_(x509_bundle_freep) struct x509_bundle *b = NULL;

		der.data[i] ^= 0x55;
		if (pkcs12_parse(der.data, der.len, NULL, &b, NULL) == 0)
			expect_bundle(b, ec, ec_leaf);
		der.data[i] ^= 0x55;
	}
	expect_read(&der, NULL, ec, ec_leaf);
}

static void test_key_of_another(void **state)
{
	_cleanup_buf_ struct buf der = BUF_SECRET_INIT(ROOM);
	STACK_OF(X509) *chain = sk_X509_new_null();
	unsigned char *bytes = NULL;
	PKCS12 *p;
	int len;

	(void)state;
	sk_X509_push(chain, issuer);
	p = PKCS12_create("", NULL, rsa, NULL, chain, 0, 0, 1, 1, 0);
	len = i2d_PKCS12(p, &bytes);
	buf_append(&der, bytes, (size_t)len);
	OPENSSL_free(bytes);
	PKCS12_free(p);
	sk_X509_free(chain);
	expect_refused(&der, NULL, -EKEYREJECTED, "none of 1 certificates belongs to the private key");
}

/* ---- what it may cost ---- */

static char *find_iterations(const struct buf *der, unsigned which)
{
	static const char encoded[] = "\x02\x03\x01\x86\x9f";
	char *p = der->data;

	for (;; p++) {
		p = memmem(p, (size_t)(der->data + der->len - p), encoded, 5);
		if (!p || which-- == 0)
			return p;
	}
}

/* Nothing is derived with a count that is absurd, wherever it stands. */
static void test_iterations(void **state)
{
	static const int nids[] = { NID_aes_256_cbc, NID_pbe_WithSHA1And3_Key_TripleDES_CBC,
				    NID_pbe_WithSHA1And40BitRC2_CBC };
	static const char *const absurd[] = { "\x02\x03\x1e\x84\x81", "\x02\x03\x7f\xff\xff", "\x02\x03\x80\x00\x00" };

	(void)state;
	for (size_t n = 0; n < ARRAY_SIZE(nids); n++) {
		/* Without a MAC nothing else refuses what was changed. */
		const struct vector v = { nids[n], nids[n], NOTICED, -1, "" },
				    mac = { nids[n], nids[n], 1, NOTICED, "" };
		_cleanup_buf_ struct buf der = BUF_SECRET_INIT(ROOM), sealed = BUF_SECRET_INIT(ROOM);
		usec_t before;

		make(&v, ec, ec_leaf, &der);
		make(&mac, ec, ec_leaf, &sealed);
		assert_non_null(find_iterations(&der, 1));
		assert_null(find_iterations(&der, 2));
		assert_non_null(find_iterations(&sealed, 0));
		assert_null(find_iterations(&sealed, 1));
		expect_read(&der, NULL, ec, ec_leaf);
		before = time_boot();
		for (size_t i = 0; i < ARRAY_SIZE(absurd); i++) {
			char *at = find_iterations(&der, 0), *at_mac = find_iterations(&sealed, 0);

			memcpy(at, absurd[i], 5);
			expect_refused(&der, NULL, -E2BIG, "iteration count");
			memcpy(at, "\x02\x03\x01\x86\x9f", 5);
			memcpy(at_mac, absurd[i], 5);
			expect_refused(&sealed, NULL, -E2BIG, "iteration count");
			memcpy(at_mac, "\x02\x03\x01\x86\x9f", 5);
		}
		assert_true(time_boot() - before < 500 * USEC_PER_MSEC);
		for (size_t i = 0; i < ARRAY_SIZE(absurd); i++) {
			char *at = find_iterations(&der, 1);

			memcpy(at, absurd[i], 5);
			expect_refused(&der, NULL, -E2BIG, "iteration count");
			memcpy(at, "\x02\x03\x01\x86\x9f", 5);
		}
	}
}

/* Each may be dear, but not all of them. */
static void test_iterations_in_all(void **state)
{
	static const struct vector v = { NID_aes_256_cbc, NID_aes_256_cbc, 900000, 900000, NULL };
	_cleanup_buf_ struct buf der = BUF_SECRET_INIT(ROOM);
	usec_t before;

	(void)state;
	make(&v, ec, ec_leaf, &der);
	before = time_boot();
	expect_refused(&der, NULL, -E2BIG, "more than 2000000 iterations in all");
	print_message("1.8 million iterations: %llu ms\n", (unsigned long long)(time_boot() - before) / 1000);
}

/* ---- structure by hand ---- */

static void put_der(struct buf *out, unsigned char tag, const struct buf *content)
{
	const char head[] = { (char)tag, (char)0x83, (char)(content->len >> 16), (char)(content->len >> 8),
			      (char)content->len };

	buf_append(out, head, sizeof(head));
	assert_int_equal(buf_append(out, buf_str(content), content->len), 0);
}

/* SEQUENCE { OID, [0] { content } } */
static void put_tagged(struct buf *out, const char *oid, size_t oid_len, const struct buf *content)
{
	_cleanup_buf_ struct buf inner = BUF_SECRET_INIT(ROOM);

	buf_append(&inner, oid, oid_len);
	put_der(&inner, 0xa0, content);
	put_der(out, 0x30, &inner);
}

static void put_data(struct buf *out, const struct buf *content)
{
	static const char data[] = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01";
	_cleanup_buf_ struct buf octets = BUF_SECRET_INIT(ROOM);

	put_der(&octets, 0x04, content);
	put_tagged(out, data, sizeof(data) - 1, &octets);
}

/* A file without MAC whose items stand `levels` deep, each level `times` over. */
static void make_nested(unsigned levels, unsigned times, struct buf *out)
{
	static const char safe_contents[] = "\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x0a\x01\x06";
	const struct vector v = { NO_CIPHER, NO_CIPHER, 1, -1, "" };
	_cleanup_buf_ struct buf flat = BUF_SECRET_INIT(ROOM), safes = BUF_SECRET_INIT(ROOM),
				 all = BUF_SECRET_INIT(ROOM), pfx = BUF_SECRET_INIT(ROOM);
	STACK_OF(PKCS7) * list;
	const unsigned char *at;
	PKCS12 *p;

	make(&v, ec, ec_leaf, &flat);
	at = (const unsigned char *)flat.data;
	p = d2i_PKCS12(NULL, &at, (long)flat.len);
	list = PKCS12_unpack_authsafes(p);
	for (int i = 0; i < sk_PKCS7_num(list); i++) {
		const ASN1_OCTET_STRING *o = sk_PKCS7_value(list, i)->d.data;
		_cleanup_buf_ struct buf contents = BUF_SECRET_INIT(ROOM);

		buf_append(&contents, o->data, (size_t)o->length);
		for (unsigned n = 1; n < levels; n++) {
			_cleanup_buf_ struct buf bags = BUF_SECRET_INIT(ROOM);

			for (unsigned k = 0; k < (i == 0 ? times : 1); k++)
				put_tagged(&bags, safe_contents, sizeof(safe_contents) - 1, &contents);
			buf_reset(&contents);
			put_der(&contents, 0x30, &bags);
		}
		put_data(&safes, &contents);
	}
	sk_PKCS7_pop_free(list, PKCS7_free);
	PKCS12_free(p);
	put_der(&all, 0x30, &safes);
	buf_append(&pfx, "\x02\x01\x03", 3);
	put_data(&pfx, &all);
	put_der(out, 0x30, &pfx);
}

static void test_bags_in_bags(void **state)
{
	(void)state;
	for (unsigned levels = 1; levels <= LIMIT_PKCS12_DEPTH + 1; levels++) {
		_cleanup_buf_ struct buf der = BUF_SECRET_INIT(ROOM);

		make_nested(levels, 1, &der);
		if (levels <= LIMIT_PKCS12_DEPTH)
			expect_read(&der, NULL, ec, ec_leaf);
		else
			expect_refused(&der, NULL, -E2BIG, "items nested more than 4 deep");
	}
	/* The same certificates many times over: counted, not kept. */
	for (unsigned times = 10; times <= 20; times += 10) {
		_cleanup_buf_ struct buf der = BUF_SECRET_INIT(ROOM);

		make_nested(2, times, &der);
		if (times == 10)
			expect_read(&der, NULL, ec, ec_leaf);
		else
			expect_refused(&der, NULL, -E2BIG, "more than 64 items");
	}
}

static void test_unknown_algorithms(void **state)
{
	static const char pbkdf2[] = "\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0c",
			  sha256[] = "\x60\x86\x48\x01\x65\x03\x04\x02\x01",
			  pbes2[] = "\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0d",
			  scrypt[] = "\x2b\x06\x01\x04\x01\xda\x47\x04\x0b";
	static const struct vector v = { NID_aes_256_cbc, NID_aes_256_cbc, 1, -1, "" },
				   sealed = { NO_CIPHER, NO_CIPHER, 1, 1, "" };
	static const struct {
		const struct vector *vector;
		const char *from, *to, *says;
	} cases[] = {
		{ &v, pbkdf2, scrypt, "protected with scrypt" },
		{ &v, pbkdf2, sha256, "protected with sha256" },
		{ &v, pbes2, scrypt, "protected with scrypt" },
		{ &v, pbes2, pbkdf2, "protected with PBKDF2" },
		{ &sealed, sha256, pbes2, "protected with PBES2" },
		{ &sealed, sha256, scrypt, "protected with scrypt" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_buf_ struct buf der = BUF_SECRET_INIT(ROOM);
		char *at;

		make(cases[i].vector, ec, ec_leaf, &der);
		at = memmem(der.data, der.len, cases[i].from, 9);
		if (cases[i].vector == &sealed) /* the last one: certificates have it, too */
			for (char *p = at; p; p = memmem(p + 1, (size_t)(der.data + der.len - p - 1), cases[i].from, 9))
				at = p;
		assert_non_null(at);
		memcpy(at, cases[i].to, 9);
		expect_refused(&der, NULL, -EOPNOTSUPP, cases[i].says);
	}
}

static void test_without_legacy_provider(void **state)
{
	_cleanup_buf_ struct buf der = BUF_SECRET_INIT(ROOM), modern = BUF_SECRET_INIT(ROOM);

	(void)state;
	make(&vectors[1], ec, ec_leaf, &der);
	make(&vectors[0], ec, ec_leaf, &modern);
	setenv("OPENSSL_MODULES", "/nonexistent", 1);
	expect_refused(&der, NULL, -ENOPKG,
		       "encrypted with pbeWithSHA1And40BitRC2-CBC, which needs OpenSSL's legacy provider");
	expect_refused(&der, NULL, -ENOPKG, "openssl-provider-legacy");
	expect_read(&modern, NULL, ec, ec_leaf);
	unsetenv("OPENSSL_MODULES");
	expect_read(&der, NULL, ec, ec_leaf);
}

/* ---- writing ---- */

static struct x509_bundle *bundle(EVP_PKEY *key, X509 *leaf)
{
	_cleanup_buf_ struct buf pem = BUF_SECRET_INIT(ROOM);
	struct x509_bundle *b = NULL;

	put_key(&pem, key);
	put_certificate(&pem, issuer);
	put_certificate(&pem, leaf);
	assert_int_equal(x509_bundle_parse(pem.data, pem.len, &b, NULL), 0);
	return b;
}

static void test_written(void **state)
{
	static const char *const passwords[] = { NULL, "", "pass word", "\xc3\xbc\xe2\x82\xac\xf0\x9f\x94\x91" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(passwords); i++) {
		_cleanup_(x509_bundle_freep) struct x509_bundle *b =
			bundle(i % 2 ? ec : rsa, i % 2 ? ec_leaf : rsa_leaf);
		_cleanup_buf_ struct buf der = BUF_SECRET_INIT(ROOM), open = BUF_INIT(ROOM),
					 small = BUF_SECRET_INIT(100);
		const unsigned char *at;
		const char *word = passwords[i] ? passwords[i] : "";
		STACK_OF(X509) *chain = NULL;
		EVP_PKEY *key = NULL;
		X509 *leaf = NULL;
		PKCS12 *p;
		int n = 0;

		assert_int_equal(pkcs12_write(b, "shop", passwords[i], &der), 0);
		expect_read(&der, passwords[i], i % 2 ? ec : rsa, i % 2 ? ec_leaf : rsa_leaf);
		if (*word)
			expect_refused(&der, NULL, -EACCES, "password");
		/* OpenSSL's own reader agrees, and finds the name. */
		at = (const unsigned char *)der.data;
		p = d2i_PKCS12(NULL, &at, (long)der.len);
		assert_non_null(p);
		assert_int_equal(PKCS12_parse(p, word, &key, &leaf, &chain), 1);
		assert_int_equal(EVP_PKEY_eq(key, i % 2 ? ec : rsa), 1);
		assert_int_equal(X509_cmp(leaf, i % 2 ? ec_leaf : rsa_leaf), 0);
		assert_int_equal(sk_X509_num(chain), 1);
		assert_int_equal(X509_cmp(sk_X509_value(chain, 0), issuer), 0);
		assert_string_equal((const char *)X509_alias_get0(leaf, &n), "shop");
		EVP_PKEY_free(key);
		X509_free(leaf);
		sk_X509_pop_free(chain, X509_free);
		PKCS12_free(p);
		assert_int_equal(pkcs12_write(b, NULL, passwords[i], &open), -EINVAL);
		assert_int_equal(pkcs12_write(b, NULL, passwords[i], &small), -EFBIG);
		assert_int_equal(ERR_peek_error(), 0);
	}
}

/* ---- what stays behind ---- */

/* With an empty password the sealed key is as good as the key, so neither may be left in freed memory. */
static void test_nothing_is_left(void **state)
{
	unsigned char *copy = malloc(64);
	struct x509_bundle *b = NULL;
	BIGNUM *secret = NULL;
	char scalar[32];

	(void)state;
	assert_int_equal(EVP_PKEY_get_bn_param(ec, "priv", &secret), 1);
	assert_int_equal(BN_bn2binpad(secret, (unsigned char *)scalar, 32), 32);
	BN_clear_free(secret);
	/* What is left would be found. */
	assert_non_null(copy);
	memcpy(copy, scalar, 32);
	watch_for(scalar, sizeof(scalar));
	free(copy);
	assert_int_equal(seen, 1);

	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		_cleanup_buf_ struct buf der = BUF_SECRET_INIT(ROOM), text = BUF_SECRET_INIT(ROOM),
					 pem = BUF_SECRET_INIT(ROOM), written = BUF_SECRET_INIT(ROOM);
		size_t middle;

		make(&vectors[i], ec, ec_leaf, &der);
		assert_int_equal(base64_encode(der.data, der.len, &text), 0);
		for (int what = 0; what < 3; what++) {
			/* The key; its sealed form, which is in the last of the file but for the MAC; the base64. */
			middle = what == 0 ? 0 : what == 1 ? der.len - 200 : text.len / 2;
			watch_for(what == 0 ? scalar : (what == 1 ? der.data : text.data) + middle, 32);
			assert_int_equal(pkcs12_parse_text(text.data, text.len, &b, NULL), 0);
			assert_int_equal(x509_write_key(b, &pem), 0);
			assert_int_equal(pkcs12_write(b, "shop", "", &written), 0);
			x509_bundle_free(TAKE_PTR(b));
			if (seen)
				fail_msg("vector %zu: part %d is left %u times", i, what, seen);
		}
		watch_for(NULL, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_way_of_writing),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_passwords_that_are_others),
		cmocka_unit_test(test_not_a_bundle),
		cmocka_unit_test(test_key_of_another),
		cmocka_unit_test(test_iterations),
		cmocka_unit_test(test_iterations_in_all),
		cmocka_unit_test(test_bags_in_bags),
		cmocka_unit_test(test_unknown_algorithms),
		cmocka_unit_test(test_without_legacy_provider),
		cmocka_unit_test(test_written),
		cmocka_unit_test(test_nothing_is_left),
	};

	if (memory_erase_freed() < 0)
		return 99;
	return cmocka_run_group_tests(tests, make_all, free_all);
}
