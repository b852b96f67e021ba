/* Certificate bundles as people and Key Vault put them together. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/err.h>

#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/x509.h"
#include "tests/support/certificates.h"

#define ROOM (LIMIT_BUNDLE_CERTIFICATES * 4096UL)

enum { LEAF, INTER, ROOT, OTHER_ROOT, N_KEYS };

static EVP_PKEY *keys[N_KEYS];
static EVP_PKEY *rsa;
static X509 *leaf, *inter, *root, *other_root;
static X509 *cross;    /* the root's key and name, signed by the other root */
static X509 *impostor; /* named like the intermediate, with another key */
static X509 *rsa_leaf; /* named with letters beyond ASCII */

static int make_all(void **state)
{
	(void)state;
	for (int i = 0; i < N_KEYS; i++)
		keys[i] = make_ec_key();
	rsa = make_rsa_key();
	leaf = make_certificate(keys[LEAF], "www.example", keys[INTER], "Inter");
	inter = make_certificate(keys[INTER], "Inter", keys[ROOT], "Root");
	root = make_certificate(keys[ROOT], "Root", keys[ROOT], "Root");
	other_root = make_certificate(keys[OTHER_ROOT], "Other", keys[OTHER_ROOT], "Other");
	cross = make_certificate(keys[ROOT], "Root", keys[OTHER_ROOT], "Other");
	impostor = make_certificate(keys[OTHER_ROOT], "Inter", keys[ROOT], "Root");
	rsa_leaf = make_certificate(rsa, "Caf\xc3\xa9, Inc", rsa, "Caf\xc3\xa9, Inc");
	return 0;
}

static int free_all(void **state)
{
	X509 *certs[] = {leaf, inter, root, other_root, cross, impostor, rsa_leaf};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(certs); i++)
		X509_free(certs[i]);
	for (int i = 0; i < N_KEYS; i++)
		EVP_PKEY_free(keys[i]);
	EVP_PKEY_free(rsa);
	return 0;
}

static struct x509_bundle *parse_ok(const struct buf *pem)
{
	struct x509_bundle *b = NULL;
	struct error err = ERROR_INIT;

	if (x509_bundle_parse(pem->data, pem->len, &b, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(ERR_peek_error(), 0);
	return b;
}

static void expect_refused(const struct buf *pem, int code, const char *why)
{
	struct x509_bundle *b = NULL;
	struct error err = ERROR_INIT;
	char message[200];

	snprintf(message, sizeof(message), "certificate bundle: %s", why);
	assert_int_equal(x509_bundle_parse(buf_str(pem), pem->len, &b, &err), code);
	assert_string_equal(err.msg, message);
	assert_int_equal(err.cls, ERROR_USER);
	assert_null(b);
	assert_int_equal(ERR_peek_error(), 0);
}

/* The full chain is exactly these certificates, in this order. */
static void expect_order(const struct x509_bundle *b, bool complete, X509 *const *certs)
{
	_cleanup_buf_ struct buf expected = BUF_INIT(ROOM), full = BUF_INIT(ROOM), parts = BUF_INIT(ROOM);
	struct x509_facts facts;
	unsigned n = 0;

	for (; certs[n]; n++)
		put_certificate(&expected, certs[n]);
	assert_int_equal(x509_write_fullchain(b, &full), 0);
	assert_string_equal(buf_str(&full), buf_str(&expected));
	assert_int_equal(x509_write_leaf(b, &parts), 0);
	assert_int_equal(x509_write_chain(b, &parts), 0);
	assert_string_equal(buf_str(&parts), buf_str(&expected));
	x509_bundle_facts(b, &facts);
	assert_int_equal(facts.complete, complete);
	assert_int_equal(facts.n_certificates, n);
}

static void expect_order_of(bool complete, X509 *const *in, X509 *const *out)
{
	_cleanup_(x509_bundle_freep) struct x509_bundle *b = NULL;
	_cleanup_buf_ struct buf pem = BUF_SECRET_INIT(ROOM);

	put_key(&pem, keys[LEAF]);
	for (; *in; in++)
		put_certificate(&pem, *in);
	b = parse_ok(&pem);
	expect_order(b, complete, out);
}

#define LIST(...) ((X509 *const[]){__VA_ARGS__, NULL})

static void test_shuffled(void **state)
{
	X509 *c[] = {leaf, inter, root};
	static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};

	(void)state;
	for (int i = 0; i < 6; i++)
		expect_order_of(true, LIST(c[orders[i][0]], c[orders[i][1]], c[orders[i][2]]), LIST(leaf, inter, root));
}

static void test_odd_chains(void **state)
{
	(void)state;
	/* duplicates */
	expect_order_of(true, LIST(root, leaf, inter, leaf, root, inter), LIST(leaf, inter, root));
	/* without the root, as most CAs send it */
	expect_order_of(true, LIST(inter, leaf), LIST(leaf, inter));
	expect_order_of(true, LIST(leaf), LIST(leaf));
	/* a gap: the order given is kept */
	expect_order_of(false, LIST(root, leaf), LIST(leaf, root));
	expect_order_of(false, LIST(root, other_root, leaf), LIST(leaf, root, other_root));
	expect_order_of(false, LIST(other_root, inter, leaf), LIST(leaf, inter, other_root));
	/* complete, with something that has nothing to do with it */
	expect_order_of(true, LIST(other_root, root, inter, leaf), LIST(leaf, inter, root, other_root));
	/* the right name is not enough: the signature counts */
	expect_order_of(true, LIST(impostor, leaf, root, inter), LIST(leaf, inter, root, impostor));
	expect_order_of(false, LIST(impostor, leaf, root), LIST(leaf, impostor, root));
	/* cross-signed: the way to the older root when it is there, else the short one */
	expect_order_of(true, LIST(root, cross, other_root, inter, leaf), LIST(leaf, inter, cross, other_root, root));
	expect_order_of(true, LIST(cross, root, inter, leaf), LIST(leaf, inter, root, cross));
	expect_order_of(true, LIST(cross, inter, leaf), LIST(leaf, inter, cross));
}

static void test_facts(void **state)
{
	_cleanup_(x509_bundle_freep) struct x509_bundle *b = NULL;
	_cleanup_buf_ struct buf pem = BUF_SECRET_INIT(ROOM);
	struct x509_facts facts;
	unsigned char digest[20];
	char hex[41];

	(void)state;
	put_certificate(&pem, rsa_leaf);
	put_key(&pem, rsa);
	b = parse_ok(&pem);
	x509_bundle_facts(b, &facts);
	assert_string_equal(facts.subject, "CN=Caf\xc3\xa9\\, Inc");
	assert_true(facts.not_before == 1767225600 * USEC_PER_SEC);
	assert_true(facts.not_after == 1798761600 * USEC_PER_SEC);
	assert_true(facts.complete);
	assert_int_equal(facts.n_certificates, 1);
	assert_int_equal(X509_digest(rsa_leaf, EVP_sha1(), digest, NULL), 1);
	for (int i = 0; i < 20; i++)
		snprintf(hex + 2 * i, 3, "%02X", digest[i]);
	assert_string_equal(facts.thumbprint, hex);
}

static void test_long_subject(void **state)
{
	_cleanup_(x509_bundle_freep) struct x509_bundle *b = NULL;
	_cleanup_buf_ struct buf pem = BUF_SECRET_INIT(ROOM);
	X509 *cert = make_certificate(keys[LEAF], "x", keys[LEAF], "x");
	X509_NAME *name = X509_get_subject_name(cert);
	struct x509_facts facts;

	(void)state;
	for (int i = 0; i < 20; i++)
		X509_NAME_add_entry_by_txt(name, "OU", MBSTRING_UTF8,
					   (const unsigned char *)"\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac", -1, -1, 0);
	assert_true(X509_sign(cert, keys[LEAF], EVP_sha256()) > 0);
	put_certificate(&pem, cert);
	put_key(&pem, keys[LEAF]);
	X509_free(cert);
	b = parse_ok(&pem);
	x509_bundle_facts(b, &facts);
	assert_true(strlen(facts.subject) > sizeof(facts.subject) - 4);
	assert_true(utf8_valid(facts.subject, strlen(facts.subject)));
}

/* Whatever form the key came in, it leaves as PKCS#8. */
static void test_key_forms(void **state)
{
	static const char parameters[] =
		"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";

	(void)state;
	for (int form = 0; form < 4; form++) {
		_cleanup_(x509_bundle_freep) struct x509_bundle *b = NULL;
		_cleanup_buf_ struct buf pem = BUF_SECRET_INIT(ROOM), expected = BUF_SECRET_INIT(ROOM),
					 key = BUF_SECRET_INIT(ROOM), open = BUF_INIT(ROOM);
		EVP_PKEY *k = form < 2 ? keys[LEAF] : rsa;

		if (form == 0)
			buf_puts(&pem, parameters);
		if (form % 2)
			put_key(&pem, k);
		else
			put_traditional_key(&pem, k); /* SEC1, PKCS#1 */
		assert_non_null(strstr(pem.data, form == 0   ? "BEGIN EC PRIVATE KEY"
						 : form == 2 ? "BEGIN RSA PRIVATE KEY"
							     : "BEGIN PRIVATE KEY"));
		put_certificate(&pem, form < 2 ? leaf : rsa_leaf);
		b = parse_ok(&pem);
		put_key(&expected, k);
		assert_int_equal(x509_write_key(b, &key), 0);
		assert_string_equal(buf_str(&key), buf_str(&expected));
		assert_int_equal(x509_write_key(b, &open), -EINVAL); /* not into a buffer that is not erased */
		assert_int_equal(open.len, 0);
	}
}

/* CRLF, a BOM, text between the blocks, no newline at the end. */
static void test_text_forms(void **state)
{
	_cleanup_buf_ struct buf pem = BUF_SECRET_INIT(ROOM);

	(void)state;
	buf_puts(&pem, "Bag Attributes\n    friendlyName: x\n");
	put_key(&pem, keys[LEAF]);
	buf_puts(&pem, "subject=CN = Inter\n\n");
	put_certificate(&pem, inter);
	buf_puts(&pem, "issuer: somebody -----\n");
	put_certificate(&pem, leaf);
	for (int form = 0; form < 16; form++) {
		_cleanup_(x509_bundle_freep) struct x509_bundle *b = NULL;
		_cleanup_buf_ struct buf text = BUF_SECRET_INIT(ROOM);
		size_t skip = form & 2 ? 0 : strlen("Bag Attributes\n    friendlyName: x\n");

		if (form & 1)
			buf_puts(&text, "\xef\xbb\xbf");
		for (const char *p = pem.data + skip; *p; p++) {
			if (*p == '\n' && form & 4)
				buf_putc(&text, '\r');
			buf_putc(&text, *p);
		}
		if (form & 8)
			text.len -= form & 4 ? 2 : 1;
		b = parse_ok(&text);
		expect_order(b, true, LIST(leaf, inter));
	}
}

#define NO_KEY "no private key; a certificate of the vault's has one only if its policy lets the key be exported"

static void test_refused(void **state)
{
	_cleanup_buf_ struct buf pem = BUF_SECRET_INIT(ROOM * 2);
	char *p;

	(void)state;
	expect_refused(&pem, -EBADMSG, NO_KEY);
	buf_puts(&pem, "hello\n");
	expect_refused(&pem, -EBADMSG, NO_KEY);
	put_certificate(&pem, leaf);
	expect_refused(&pem, -EBADMSG, NO_KEY);
	put_key(&pem, keys[INTER]);
	expect_refused(&pem, -EKEYREJECTED, "none of 1 certificates belongs to the private key");
	put_key(&pem, keys[LEAF]);
	expect_refused(&pem, -EBADMSG, "more than one private key");

	buf_reset(&pem);
	put_key(&pem, keys[LEAF]);
	expect_refused(&pem, -EBADMSG, "no certificate");
	put_key(&pem, keys[LEAF]); /* also the same twice */
	expect_refused(&pem, -EBADMSG, "more than one private key");

	/* cut off, or damaged, in the middle of a block */
	buf_reset(&pem);
	put_key(&pem, keys[LEAF]);
	put_certificate(&pem, leaf);
	pem.len -= 40;
	buf_terminate(&pem);
	expect_refused(&pem, -EBADMSG, "a PEM block is damaged or cut off");
	buf_reset(&pem);
	put_key(&pem, keys[LEAF]);
	put_certificate(&pem, leaf);
	p = strstr(pem.data, "BEGIN CERTIFICATE-----\n") + strlen("BEGIN CERTIFICATE-----\n");
	memcpy(p, "AAAA", 4); /* still base64, but no certificate */
	expect_refused(&pem, -EBADMSG, "certificate 1 is not readable");
	memcpy(p, "!!!!", 4);
	expect_refused(&pem, -EBADMSG, "a PEM block is damaged or cut off");
	buf_reset(&pem);
	put_certificate(&pem, leaf);
	put_key(&pem, keys[LEAF]);
	memcpy(strstr(pem.data, "BEGIN PRIVATE KEY-----\n") + strlen("BEGIN PRIVATE KEY-----\n"), "AAAA", 4);
	expect_refused(&pem, -EBADMSG, "the private key is not readable");
}

static void test_encrypted_key(void **state)
{
	_cleanup_buf_ struct buf pem = BUF_SECRET_INIT(ROOM);
	BIO *bio = BIO_new(BIO_s_mem());

	(void)state;
	put_certificate(&pem, leaf);
	take_bio(bio, PEM_write_bio_PKCS8PrivateKey(bio, keys[LEAF], EVP_aes_256_cbc(), "pass", 4, NULL, NULL), &pem);
	expect_refused(&pem, -EBADMSG, "the private key is encrypted");
	buf_reset(&pem);
	bio = BIO_new(BIO_s_mem());
	take_bio(bio,
		 PEM_write_bio_PrivateKey_traditional(bio, keys[LEAF], EVP_aes_256_cbc(), (const unsigned char *)"pass",
						      4, NULL, NULL),
		 &pem);
	expect_refused(&pem, -EBADMSG, "the private key is encrypted");
}

static void test_limit(void **state)
{
	_cleanup_(x509_bundle_freep) struct x509_bundle *b = NULL;
	_cleanup_buf_ struct buf pem = BUF_SECRET_INIT(ROOM), small = BUF_INIT(100);
	struct x509_facts facts;

	(void)state;
	put_key(&pem, keys[LEAF]);
	put_certificate(&pem, leaf);
	for (int i = 1; i < LIMIT_BUNDLE_CERTIFICATES; i++) {
		X509 *cert = make_certificate(keys[ROOT], "Same", keys[ROOT], "Same");

		put_certificate(&pem, cert);
		X509_free(cert);
	}
	b = parse_ok(&pem);
	x509_bundle_facts(b, &facts);
	assert_int_equal(facts.n_certificates, LIMIT_BUNDLE_CERTIFICATES);
	assert_int_equal(x509_write_leaf(b, &small), -EFBIG);
	put_certificate(&pem, root);
	expect_refused(&pem, -EBADMSG, "more than 32 certificates");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shuffled),  cmocka_unit_test(test_odd_chains),
		cmocka_unit_test(test_facts),     cmocka_unit_test(test_long_subject),
		cmocka_unit_test(test_key_forms), cmocka_unit_test(test_text_forms),
		cmocka_unit_test(test_refused),   cmocka_unit_test(test_encrypted_key),
		cmocka_unit_test(test_limit),
	};

	return cmocka_run_group_tests(tests, make_all, free_all);
}
