/*
 * Key Vault secrets over REST (key-vault.md B): one secret, newest or pinned, as PEM where the service can convert
 * (2025-07-01 with outContentType, else 7.4). The token goes to the vault of the settings only: https, port 443, host on
 * the list of suffixes; no redirects, no link that leads elsewhere. 401: one fresh token, once. The newest version is
 * disabled: the newest one that is not. Other failures are the caller's to retry (retry_vault).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agent/base/error.h"
#include "agent/base/time.h"

struct http;
struct identity;
struct jd_list;
struct loop;
struct tokens;
struct vault_call;
struct vaults;

/* Which vaults speak an older version of the API, found out by asking; forgotten after a day. Outlives its calls. */
_nodiscard_ int vaults_new(struct vaults **ret);
void vaults_free(struct vaults *v);

struct vault_secret {
	const char *value; /* valid in the callback only; erased afterwards */
	size_t len;
	char version[64];
	char previous[64];     /* version; "" when the service does not tell */
	char content_type[64]; /* "" when the secret has none; cut, if longer */
	bool enabled;
	bool newest_disabled; /* so it is the newest that is not */
	usec_t not_before, expires, created; /* 0: not given */
};

struct vault_failure {
	int status;	    /* 200: an answer that cannot be used; 0: no (whole) answer, or no token */
	usec_t retry_after;
	bool disabled;	    /* the version asked for, or all of them */
	struct error err;   /* with cause, identity used, request id and what to do */
};

struct vault_request {
	const char *url; /* https://VAULT.SUFFIX/secrets/NAME[/VERSION], as the settings allow it */
	const struct jd_list *suffixes; /* of char *: added ones; NULL or empty: none */
	const char *identity_endpoint;
	const struct identity *identity;
	bool want_pem;
	struct vaults *vaults; /* NULL: nothing is remembered */
	/* Versions known from before, the newest first: tried when the newest is disabled and the identity may not list the
	 * others. NULL-terminated, or NULL. */
	const char *const *known_versions;
};

/* Exactly one of the first two is given. `who`: the identity used, "" if it did not come so far. At most once, from the
 * loop; the call is the caller's, who may free it there. */
typedef void (*vault_fn)(const struct vault_secret *secret, const struct vault_failure *failure, const char *who,
			 void *userdata);

/* Everything in the request is copied. -EINVAL: the url, or the endpoint. */
_nodiscard_ int vault_get(struct loop *loop, struct http *http, struct tokens *tokens, const struct vault_request *req,
			  vault_fn done, void *userdata, struct vault_call **ret, struct error *err);
void vault_call_free(struct vault_call *c);

DEFINE_CLEANUP(struct vaults *, vaults_free)
DEFINE_CLEANUP(struct vault_call *, vault_call_free)

/* What a secret's url names; -EINVAL says what is wrong. Buffers of 256 bytes: vault host, name, version ("" newest), and the
 * token resource. */
_nodiscard_ int vault_url_parse(const char *url, const struct jd_list *suffixes, char host[static 256], char name[static 256],
				char version[static 256], char resource[static 256], struct error *err);

/* What the vault answers, for fuzzing. The secret points into the bundle. */
struct vault_bundle;
_nodiscard_ int vault_reply_parse(const char *text, size_t len, struct vault_bundle **ret, struct vault_secret *ret_secret,
				  struct error *err);
void vault_bundle_free(struct vault_bundle *v); /* erases */

DEFINE_CLEANUP(struct vault_bundle *, vault_bundle_free)
