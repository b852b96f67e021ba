/* Reads PKCS#12: what it would cost first, then the seal, then what is in it. And writes it, as is done today. */
#include "agent/codec/pkcs12.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pkcs12.h>
#include <openssl/provider.h>
#include <stdbool.h>
#include <stdlib.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/base64.h"
#include "agent/codec/x509_internal.h"

/* Three derivations each; an empty password is not worth the work. */
#define ITERATIONS	 100000
#define ITERATIONS_EMPTY 2048

DEFINE_CLEANUP(PKCS12 *, PKCS12_free)

static void free_safes(STACK_OF(PKCS7) * safes)
{
	sk_PKCS7_pop_free(safes, PKCS7_free);
}
DEFINE_CLEANUP(STACK_OF(PKCS7) *, free_safes)

static void free_bags(STACK_OF(PKCS12_SAFEBAG) * bags)
{
	sk_PKCS12_SAFEBAG_pop_free(bags, PKCS12_SAFEBAG_free);
}
DEFINE_CLEANUP(STACK_OF(PKCS12_SAFEBAG) *, free_bags)

struct reader {
	struct x509_bundle *b;
	OSSL_LIB_CTX *context; /* NULL: the default one, without the legacy provider */
	const char *password;  /* NULL is not "" */
	int64_t spent;	       /* iterations */
	unsigned bags;
	struct error *err;
};

/* ---- what it costs ---- */

/* Nobody waits for a file that takes minutes, least of all a daemon with one thread. NULL: 1. */
static int spend(struct reader *r, const ASN1_INTEGER *iterations)
{
	int64_t n = 1;

	if (iterations && (ASN1_INTEGER_get_int64(&n, iterations) != 1 || n < 1 || n > LIMIT_PKCS12_ITERATIONS))
		return error_set(
			r->err, ERROR_USER, -E2BIG,
			"certificate bundle: PKCS#12 with an iteration count beyond 1 to %d; export it again with "
			"fewer",
			LIMIT_PKCS12_ITERATIONS);
	r->spent += n;
	if (r->spent > LIMIT_PKCS12_ITERATIONS)
		return error_set(
			r->err, ERROR_USER, -E2BIG,
			"certificate bundle: PKCS#12 with more than %d iterations in all; export it again with "
			"fewer",
			LIMIT_PKCS12_ITERATIONS);
	return 0;
}

/* ---- algorithms ---- */

/* What OpenSSL 3 keeps in its legacy provider. */
static bool is_legacy(int nid)
{
	switch (nid) {
	case NID_pbe_WithSHA1And128BitRC4:
	case NID_pbe_WithSHA1And40BitRC4:
	case NID_pbe_WithSHA1And128BitRC2_CBC:
	case NID_pbe_WithSHA1And40BitRC2_CBC:
	case NID_pbeWithMD2AndDES_CBC:
	case NID_pbeWithMD2AndRC2_CBC:
	case NID_pbeWithMD5AndDES_CBC:
	case NID_pbeWithMD5AndRC2_CBC:
	case NID_pbeWithSHA1AndDES_CBC:
	case NID_pbeWithSHA1AndRC2_CBC:
	case NID_des_cbc:
	case NID_rc2_cbc:
	case NID_rc5_cbc:
		return true;
	default:
		return false;
	}
}

/* An object without a name of its own is told by its number. */
static const char *name_of(const ASN1_OBJECT *o, char text[static 80])
{
	return OBJ_obj2txt(text, 80, o, 0) > 0 ? text : "of an unknown kind";
}

static int unsupported(struct reader *r, const ASN1_OBJECT *o)
{
	char text[80];

	return error_set(
		r->err, ERROR_USER, -EOPNOTSUPP,
		"certificate bundle: PKCS#12 protected with %.79s, which is not supported; export it again the way OpenSSL 3 "
		"does (AES-256, SHA-256)",
		name_of(o, text));
}

/* Taken again with the provider when that is not there yet: the caller sees to it. */
static int require(struct reader *r, const ASN1_OBJECT *o)
{
	char text[80];

	if (!is_legacy(OBJ_obj2nid(o)) || r->context)
		return 0;
	return error_set(
		r->err, ERROR_USER, -ENOPKG,
		"certificate bundle: PKCS#12 encrypted with %.60s, which needs OpenSSL's legacy provider, and that "
		"is not installed here; install it (openssl-provider-legacy, where it is a package of its own), or "
		"export the certificate again with AES-256",
		name_of(o, text));
}

static int judge_pbes2(struct reader *r, const X509_ALGOR *a)
{
	PBE2PARAM *p = ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(PBE2PARAM), a->parameter);
	const ASN1_OBJECT *derivation = p ? p->keyfunc->algorithm : a->algorithm;
	PBKDF2PARAM *k = NULL;
	int result;

	if (p && OBJ_obj2nid(derivation) == NID_id_pbkdf2)
		k = ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(PBKDF2PARAM), p->keyfunc->parameter);
	result = k ? require(r, p->encryption->algorithm) : unsupported(r, derivation);
	if (k && result >= 0)
		result = spend(r, k->iter);
	PBKDF2PARAM_free(k);
	PBE2PARAM_free(p);
	return result;
}

/* Before anything is decrypted with it. */
static int judge_algorithm(struct reader *r, const X509_ALGOR *a)
{
	int nid = a ? OBJ_obj2nid(a->algorithm) : NID_undef, result;
	PBEPARAM *p;

	if (nid == NID_pbes2)
		return judge_pbes2(r, a);
	if (!a || EVP_PBE_find(EVP_PBE_TYPE_OUTER, nid, NULL, NULL, NULL) != 1)
		return a ? unsupported(r, a->algorithm) : x509_unreadable(r->err, "the PKCS#12 is damaged");
	p = ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(PBEPARAM), a->parameter);
	if (!p)
		return unsupported(r, a->algorithm);
	result = require(r, a->algorithm);
	if (result >= 0)
		result = spend(r, p->iter);
	PBEPARAM_free(p);
	return result;
}

/* ---- what is in it ---- */

static int take_key(struct reader *r, const PKCS8_PRIV_KEY_INFO *p8)
{
	/* In the default context: the other one is gone when the bundle is used. */
	return x509_bundle_set_key(r->b, p8 ? EVP_PKCS82PKEY(p8) : NULL, r->err);
}

static int take_sealed_key(struct reader *r, const PKCS12_SAFEBAG *bag)
{
	const X509_SIG *sealed = PKCS12_SAFEBAG_get0_pkcs8(bag);
	const X509_ALGOR *algorithm = NULL;
	PKCS8_PRIV_KEY_INFO *p8;
	int result;

	if (sealed)
		X509_SIG_get0(sealed, &algorithm, NULL);
	result = judge_algorithm(r, algorithm);
	if (result < 0)
		return result;
	p8 = PKCS12_decrypt_skey_ex(bag, r->password, -1, r->context, NULL);
	result = take_key(r, p8);
	PKCS8_PRIV_KEY_INFO_free(p8);
	return result;
}

static int take_bag(struct reader *r, const PKCS12_SAFEBAG *bag)
{
	if (++r->bags > LIMIT_PKCS12_BAGS)
		return error_set(r->err, ERROR_USER, -E2BIG, "certificate bundle: PKCS#12 with more than %d items",
				 LIMIT_PKCS12_BAGS);
	switch (PKCS12_SAFEBAG_get_nid(bag)) {
	case NID_keyBag:
		return take_key(r, PKCS12_SAFEBAG_get0_p8inf(bag));
	case NID_pkcs8ShroudedKeyBag:
		return take_sealed_key(r, bag);
	case NID_certBag:
		if (PKCS12_SAFEBAG_get_bag_nid(bag) == NID_x509Certificate)
			return x509_bundle_add(r->b, PKCS12_SAFEBAG_get1_cert(bag), r->err);
		return 0;
	default:
		return 0; /* revocation lists, what other programs keep beside a key, and bags of bags */
	}
}

struct level {
	const STACK_OF(PKCS12_SAFEBAG) * bags;
	int next;
};

/* Bags may hold bags. */
static int take_bags(struct reader *r, const STACK_OF(PKCS12_SAFEBAG) * bags)
{
	struct level levels[LIMIT_PKCS12_DEPTH] = { { bags, 0 } };
	unsigned depth = 1;
	int result = bags ? 0 : x509_unreadable(r->err, "the PKCS#12 is damaged");

	while (result >= 0 && depth > 0) {
		struct level *l = &levels[depth - 1];
		const PKCS12_SAFEBAG *bag = sk_PKCS12_SAFEBAG_value(l->bags, l->next++);
		const STACK_OF(PKCS12_SAFEBAG) *inner = bag ? PKCS12_SAFEBAG_get0_safes(bag) : NULL;

		if (!bag) {
			depth--;
			continue;
		}
		result = take_bag(r, bag);
		if (result >= 0 && inner && depth == LIMIT_PKCS12_DEPTH)
			result = error_set(r->err, ERROR_USER, -E2BIG,
					   "certificate bundle: PKCS#12 with items nested more than %d deep",
					   LIMIT_PKCS12_DEPTH);
		else if (inner)
			levels[depth++] = (struct level){ inner, 0 };
	}
	return result;
}

static int take_encrypted(struct reader *r, const PKCS7_ENC_CONTENT *content)
{
	_cleanup_(free_bagsp) STACK_OF(PKCS12_SAFEBAG) *bags = NULL;
	int result;

	if (!content || !content->enc_data)
		return x509_unreadable(r->err, "the PKCS#12 is damaged");
	result = judge_algorithm(r, content->algorithm);
	if (result < 0)
		return result;
	bags = PKCS12_item_decrypt_d2i_ex(content->algorithm, ASN1_ITEM_rptr(PKCS12_SAFEBAGS), r->password, -1,
					  content->enc_data, 1, r->context, NULL);
	return take_bags(r, bags);
}

static int take_safe(struct reader *r, PKCS7 *safe)
{
	_cleanup_(free_bagsp) STACK_OF(PKCS12_SAFEBAG) *bags = NULL;

	if (PKCS7_type_is_encrypted(safe))
		return take_encrypted(r, safe->d.encrypted ? safe->d.encrypted->enc_data : NULL);
	if (!PKCS7_type_is_data(safe))
		return x509_unreadable(r->err, "the PKCS#12 is for somebody's public key, not for a password");
	bags = PKCS12_unpack_p7data(safe);
	return take_bags(r, bags);
}

static int take_safes(struct reader *r, const PKCS12 *p)
{
	_cleanup_(free_safesp) STACK_OF(PKCS7) *safes = PKCS12_unpack_authsafes(p);
	int result = safes ? 0 : x509_unreadable(r->err, "the PKCS#12 is damaged");

	for (int i = 0; result >= 0 && i < sk_PKCS7_num(safes); i++)
		result = take_safe(r, sk_PKCS7_value(safes, i));
	return result;
}

/* ---- the seal ---- */

/* 1: it is this password; 0: it is not, or the file was changed. */
static int check_mac(struct reader *r, PKCS12 *p)
{
	const X509_ALGOR *algorithm = NULL;
	const ASN1_INTEGER *iterations = NULL;
	int result;

	PKCS12_get0_mac(NULL, &algorithm, NULL, &iterations, p);
	/* Others than digests are newer ways of sealing. */
	if (!EVP_get_digestbynid(OBJ_obj2nid(algorithm->algorithm)))
		return unsupported(r, algorithm->algorithm);
	result = spend(r, iterations);
	return result < 0 ? result : PKCS12_verify_mac(p, r->password, -1) == 1;
}

static int refuse_password(struct reader *r)
{
	return error_set(
		r->err, ERROR_USER, -EACCES,
		"certificate bundle: the PKCS#12 has a password, or was changed; put it into the vault without one");
}

static void forget(struct x509_bundle *b)
{
	for (unsigned i = 0; i < b->n; i++)
		X509_free(b->certs[i]);
	EVP_PKEY_free(b->key);
	*b = (struct x509_bundle){ 0 };
}

/* Without a seal only the outcome tells whether the password was the right one. */
static int try_password(struct reader *r, PKCS12 *p, const char *password)
{
	int result = 1;

	r->password = password;
	r->bags = 0;
	forget(r->b);
	if (PKCS12_mac_present(p))
		result = check_mac(r, p);
	if (result == 0)
		return refuse_password(r);
	if (result > 0)
		result = take_safes(r, p);
	return result < 0 ? result : x509_bundle_finish(r->b, r->err);
}

static int read_pfx(struct reader *r, PKCS12 *p, const char *password)
{
	int result;

	r->spent = 0;
	if (password && *password)
		return try_password(r, p, password);
	result = try_password(r, p, NULL);
	if (result == -EACCES || (result == -EBADMSG && !PKCS12_mac_present(p)))
		result = try_password(r, p, "");
	return result;
}

/* ---- the legacy provider ---- */

static int read_with_legacy(struct reader *r, PKCS12 *p, const char *password, int result)
{
	OSSL_LIB_CTX *context = OSSL_LIB_CTX_new();
	/* Both, since a context that loads one by name loads no other. */
	OSSL_PROVIDER *usual = context ? OSSL_PROVIDER_load(context, "default") : NULL;
	OSSL_PROVIDER *legacy = usual ? OSSL_PROVIDER_load(context, "legacy") : NULL;

	/* When it is not there the first answer stays. */
	if (legacy) {
		r->context = context;
		result = read_pfx(r, p, password);
		(void)OSSL_PROVIDER_unload(legacy);
	}
	if (usual)
		(void)OSSL_PROVIDER_unload(usual);
	OSSL_LIB_CTX_free(context);
	return result;
}

static int parse(const void *der, size_t len, const char *password, struct x509_bundle *b, struct error *err)
{
	_cleanup_(PKCS12_freep) PKCS12 *p = NULL;
	const unsigned char *at = der;
	struct reader r = { .b = b, .err = err };
	int result;

	if (len > LIMIT_PKCS12)
		return error_set(err, ERROR_USER, -E2BIG, "certificate bundle: PKCS#12 of more than %lu bytes",
				 LIMIT_PKCS12);
	p = d2i_PKCS12(NULL, &at, (long)len);
	if (!p)
		return x509_unreadable(err, "not readable as PKCS#12");
	result = read_pfx(&r, p, password);
	return result == -ENOPKG ? read_with_legacy(&r, p, password, result) : result;
}

int pkcs12_parse(const void *der, size_t len, const char *password, struct x509_bundle **ret, struct error *err)
{
	_cleanup_(x509_bundle_freep) struct x509_bundle *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return error_oom(err);
	ERR_clear_error();
	r = parse(der, len, password, b, err);
	ERR_clear_error(); /* nobody above looks at OpenSSL's queue */
	if (r < 0)
		return r;
	*ret = TAKE_PTR(b);
	return 0;
}

int pkcs12_parse_text(const char *base64, size_t len, struct x509_bundle **ret, struct error *err)
{
	_cleanup_buf_ struct buf der = BUF_SECRET_INIT(LIMIT_PKCS12);
	int r = base64_decode(base64, len, true, &der, err);

	if (r == -ENOMEM)
		return r;
	if (r == -EFBIG)
		return error_set(err, ERROR_USER, -E2BIG, "certificate bundle: PKCS#12 of more than %lu bytes",
				 LIMIT_PKCS12);
	if (r < 0)
		return x509_unreadable(err, "not readable as PKCS#12, since it is no base64");
	return pkcs12_parse(buf_str(&der), der.len, NULL, ret, err);
}

/* ---- writing ---- */

static int write_chain(const struct x509_bundle *b, const char *name, const char *password, int iterations,
		       STACK_OF(X509) * chain, struct buf *out)
{
	_cleanup_(PKCS12_freep) PKCS12 *p = NULL;
	unsigned char *der = NULL;
	int len, r;

	for (unsigned i = 1; i < b->n; i++)
		if (sk_X509_push(chain, b->certs[i]) <= 0)
			return -ENOMEM;
	p = PKCS12_create(password, name, b->key, b->certs[0], chain, NID_aes_256_cbc, NID_aes_256_cbc, iterations, -1,
			  0);
	if (!p || PKCS12_set_mac(p, password, -1, NULL, 0, iterations, EVP_sha256()) != 1)
		return -EIO;
	len = i2d_PKCS12(p, &der);
	r = len > 0 ? buf_append(out, der, (size_t)len) : -EIO;
	OPENSSL_clear_free(der, len > 0 ? (size_t)len : 0);
	return r;
}

int pkcs12_write(const struct x509_bundle *b, const char *name, const char *password, struct buf *out)
{
	bool empty = str_empty(password);
	STACK_OF(X509) * chain;
	int r;

	if (!out->secret)
		return -EINVAL;
	chain = sk_X509_new_null();
	if (!chain)
		return -ENOMEM;
	r = write_chain(b, name, empty ? "" : password, empty ? ITERATIONS_EMPTY : ITERATIONS, chain, out);
	sk_X509_free(chain);
	ERR_clear_error();
	return r;
}
