/* From PEM in any order to a certificate with its key and its chain. */
#include <errno.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/codec/x509_internal.h"

/* Not for the secure heap, which is not set up, but because OpenSSL then erases what it gives back. */
#define PEM_FLAGS (PEM_FLAG_SECURE | PEM_FLAG_EAY_COMPATIBLE)

DEFINE_CLEANUP(BIO *, BIO_free_all)

/* One PEM block as OpenSSL hands it out. */
struct block {
	char *name, *header;
	unsigned char *data;
	long len;
};

static void block_done(struct block *b)
{
	OPENSSL_secure_free(b->name);
	OPENSSL_secure_free(b->header);
	OPENSSL_secure_clear_free(b->data, (size_t)b->len);
	*b = (struct block){ 0 };
}

void x509_bundle_free(struct x509_bundle *b)
{
	if (!b)
		return;
	for (unsigned i = 0; i < b->n; i++)
		X509_free(b->certs[i]);
	EVP_PKEY_free(b->key);
	free(b);
}

int x509_unreadable(struct error *err, const char *why)
{
	return error_set(err, ERROR_USER, -EBADMSG, "certificate bundle: %s", why);
}

int x509_bundle_add(struct x509_bundle *b, X509 *cert, struct error *err)
{
	if (!cert)
		return error_set(err, ERROR_USER, -EBADMSG, "certificate bundle: certificate %u is not readable",
				 b->n + 1);
	for (unsigned i = 0; i < b->n; i++)
		if (X509_cmp(b->certs[i], cert) == 0) {
			X509_free(cert);
			return 0;
		}
	if (b->n == ARRAY_SIZE(b->certs)) {
		X509_free(cert);
		return error_set(err, ERROR_USER, -EBADMSG, "certificate bundle: more than %d certificates",
				 LIMIT_BUNDLE_CERTIFICATES);
	}
	b->certs[b->n++] = cert;
	return 0;
}

int x509_bundle_set_key(struct x509_bundle *b, EVP_PKEY *key, struct error *err)
{
	if (!key)
		return x509_unreadable(err, "the private key is not readable");
	if (b->key) {
		EVP_PKEY_free(key);
		return x509_unreadable(err, "more than one private key");
	}
	b->key = key;
	return 0;
}

static int add_key(struct x509_bundle *b, const struct block *block, struct error *err)
{
	const unsigned char *p = block->data;

	if (str_starts(block->name, "ENCRYPTED") || strstr(block->header, "ENCRYPTED"))
		return x509_unreadable(err, "the private key is encrypted");
	return x509_bundle_set_key(b, d2i_AutoPrivateKey(NULL, &p, block->len), err);
}

static int add_block(struct x509_bundle *b, const struct block *block, struct error *err)
{
	const unsigned char *p = block->data;

	if (str_equal(block->name, PEM_STRING_X509) || str_equal(block->name, PEM_STRING_X509_OLD))
		return x509_bundle_add(b, d2i_X509(NULL, &p, block->len), err);
	if (str_ends(block->name, "PRIVATE KEY"))
		return add_key(b, block, err);
	return 0; /* EC PARAMETERS, and whatever else people paste */
}

static int read_blocks(struct x509_bundle *b, const char *pem, size_t len, struct error *err)
{
	_cleanup_(BIO_free_allp) BIO *bio = NULL;
	int r = 0;

	if (len >= 3 && memcmp(pem, "\xef\xbb\xbf", 3) == 0) {
		pem += 3;
		len -= 3;
	}
	if (len > INT_MAX)
		return x509_unreadable(err, "too large");
	bio = BIO_new_mem_buf(pem, (int)len);
	if (!bio)
		return error_oom(err);
	while (r == 0) {
		_cleanup_(block_done) struct block block = { 0 };

		if (PEM_read_bio_ex(bio, &block.name, &block.header, &block.data, &block.len, PEM_FLAGS) == 1) {
			r = add_block(b, &block, err);
			continue;
		}
		if (ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE)
			break;
		return x509_unreadable(err, "a PEM block is damaged or cut off");
	}
	return r;
}

/* Signed by: names alone are not enough, several certificates may carry the same. */
static bool issued(X509 *issuer, X509 *cert)
{
	EVP_PKEY *key = X509_get0_pubkey(issuer);

	return key && X509_NAME_cmp(X509_get_subject_name(issuer), X509_get_issuer_name(cert)) == 0 &&
	       X509_verify(cert, key) == 1;
}

static void move_up(struct x509_bundle *b, unsigned from, unsigned to)
{
	X509 *cert = b->certs[from];

	memmove(b->certs + to + 1, b->certs + to, (from - to) * sizeof(*b->certs));
	b->certs[to] = cert;
}

static bool has_issuer(const struct x509_bundle *b, unsigned i, unsigned first)
{
	for (unsigned j = first; j < b->n; j++)
		if (j != i && issued(b->certs[j], b->certs[i]))
			return true;
	return false;
}

/* The issuer of certs[done - 1] among those from `done` on. Of several (a cross-signed root) the one that leads on to
 * a further issuer is best, because clients that know only the older root need the longer chain; then the
 * self-signed one. */
static unsigned find_issuer(const struct x509_bundle *b, unsigned done)
{
	unsigned best = b->n, rank = 0;

	for (unsigned i = done; i < b->n; i++) {
		bool self = issued(b->certs[i], b->certs[i]);
		unsigned here = !self && has_issuer(b, i, done) ? 3 : self ? 2 : 1;

		if (here > rank && issued(b->certs[i], b->certs[done - 1])) {
			best = i;
			rank = here;
		}
	}
	return best;
}

static int order(struct x509_bundle *b, struct error *err)
{
	unsigned done = 0;

	for (unsigned i = 0; i < b->n && !done; i++)
		if (X509_check_private_key(b->certs[i], b->key) == 1) {
			move_up(b, i, 0);
			done = 1;
		}
	if (!done)
		return error_set(err, ERROR_USER, -EKEYREJECTED,
				 "certificate bundle: none of %u certificates belongs to the private key", b->n);
	while (done < b->n && !issued(b->certs[done - 1], b->certs[done - 1])) {
		unsigned i = find_issuer(b, done);

		if (i == b->n)
			break;
		move_up(b, i, done++);
	}
	b->facts.complete = done == b->n || issued(b->certs[done - 1], b->certs[done - 1]);
	return 0;
}

static usec_t usec_of(const ASN1_TIME *t)
{
	struct tm tm;
	time_t s;

	if (ASN1_TIME_to_tm(t, &tm) != 1)
		return 0;
	s = timegm(&tm);
	return s > 0 ? usec_from_seconds((uint64_t)s) : 0;
}

static int find_facts(struct x509_bundle *b, struct error *err)
{
	static const char hex[] = "0123456789ABCDEF";
	_cleanup_(BIO_free_allp) BIO *bio = BIO_new(BIO_s_mem());
	const X509 *leaf = b->certs[0];
	struct x509_facts *f = &b->facts;
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	char *text;
	long len;

	/* RFC 2253, but with letters beyond ASCII left readable. */
	if (!bio ||
	    X509_NAME_print_ex(bio, X509_get_subject_name(leaf), 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) < 0)
		return error_oom(err);
	len = BIO_get_mem_data(bio, &text);
	if (len > 0) {
		size_t keep = utf8_cut(text, (size_t)len, sizeof(f->subject) - 1);

		memcpy(f->subject, text, keep);
		f->subject[keep] = '\0';
	}
	if (X509_digest(leaf, EVP_sha1(), digest, &n) != 1 || n != 20)
		return error_set(err, ERROR_SYSTEM, -EIO, "certificate bundle: OpenSSL makes no SHA-1 thumbprint");
	for (unsigned i = 0; i < n; i++) {
		f->thumbprint[2 * i] = hex[digest[i] >> 4];
		f->thumbprint[2 * i + 1] = hex[digest[i] & 15];
	}
	f->not_before = usec_of(X509_get0_notBefore(leaf));
	f->not_after = usec_of(X509_get0_notAfter(leaf));
	f->n_certificates = b->n;
	return 0;
}

int x509_bundle_finish(struct x509_bundle *b, struct error *err)
{
	int r;

	if (!b->key)
		return x509_unreadable(err,
				       "no private key; a certificate of the vault's has one only if its policy lets the key be exported");
	if (!b->n)
		return x509_unreadable(err, "no certificate");
	r = order(b, err);
	return r < 0 ? r : find_facts(b, err);
}

int x509_bundle_parse(const char *pem, size_t len, struct x509_bundle **ret, struct error *err)
{
	_cleanup_(x509_bundle_freep) struct x509_bundle *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return error_oom(err);
	ERR_clear_error();
	r = read_blocks(b, pem, len, err);
	if (r >= 0)
		r = x509_bundle_finish(b, err);
	ERR_clear_error(); /* nobody above looks at OpenSSL's queue */
	if (r < 0)
		return r;
	*ret = TAKE_PTR(b);
	return 0;
}

void x509_bundle_facts(const struct x509_bundle *b, struct x509_facts *ret)
{
	*ret = b->facts;
}

/* Appends what was written to the BIO; a memory BIO erases on release. */
static int append_bio(BIO *bio, int written, struct buf *out)
{
	char *text;
	long len = BIO_get_mem_data(bio, &text);

	ERR_clear_error();
	if (written != 1 || len <= 0)
		return -EIO;
	return buf_append(out, text, (size_t)len);
}

static int write_range(const struct x509_bundle *b, unsigned from, unsigned to, struct buf *out)
{
	for (unsigned i = from; i < to; i++) {
		_cleanup_(BIO_free_allp) BIO *bio = BIO_new(BIO_s_mem());
		int r;

		if (!bio)
			return -ENOMEM;
		r = append_bio(bio, PEM_write_bio_X509(bio, b->certs[i]), out);
		if (r < 0)
			return r;
	}
	return 0;
}

int x509_write_leaf(const struct x509_bundle *b, struct buf *out)
{
	return write_range(b, 0, 1, out);
}

int x509_write_chain(const struct x509_bundle *b, struct buf *out)
{
	return write_range(b, 1, b->n, out);
}

int x509_write_fullchain(const struct x509_bundle *b, struct buf *out)
{
	return write_range(b, 0, b->n, out);
}

int x509_write_key(const struct x509_bundle *b, struct buf *out)
{
	_cleanup_(BIO_free_allp) BIO *bio = NULL;

	if (!out->secret)
		return -EINVAL;
	bio = BIO_new(BIO_s_mem());
	if (!bio)
		return -ENOMEM;
	return append_bio(bio, PEM_write_bio_PKCS8PrivateKey(bio, b->key, NULL, NULL, 0, NULL, NULL), out);
}
