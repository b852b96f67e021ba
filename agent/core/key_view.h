/*
 * What people are shown of certificates and plain secrets: one value that the daemon fills and writes as JSON, and that the
 * commands read back by the same tables. What the settings want is kept on disk as well (without what is true now), so that
 * the commands can tell and check it without a daemon. Nothing in it is secret. Times are texts (ISO 8601, UTC), absent ones
 * NULL; release with jd_free(&key_view_type, v).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/codec/json.h"
#include "agent/core/key_plan.h"

#define KEY_VIEW_UNKNOWN (-1)

struct view_key_file {
	char *path; /* as applications open it */
	char *part; /* fullchain, certificate, chain, key, combined, pkcs12, secret */
	bool has_key, is_private; /* private: mode and access list of the settings are meant for it, else 0644 */
};

struct view_key {
	/* What the settings want. */
	char *name, *kind; /* certificate, secret */
	char *url, *where; /* the directory, or a secret's file */
	char *owner, *group, *mode;
	struct jd_list acls;  /* of struct acl_settings */
	struct jd_list files; /* of struct view_key_file */

	/* What is true now. */
	/* installed, expiring, expired, failing (installed, but not refreshed), rejected (a newer version could not be put to
	 * use), activating (it is being put to use, or reloaded), pending, missing */
	char *state;
	char *level; /* success, transitioning, warning, error */
	char *version, *thumbprint, *not_after, *installed_at;
	int64_t days_left; /* KEY_VIEW_UNKNOWN: it does not expire, or there is none */
	char *identity;	   /* that it was read with */
	char *error;	   /* of the last try; NULL: it went well */
	char *activation;  /* the step of the way into use that is under way, or NULL */
	char *problem;	   /* of that way, or of those who cannot reach the files; NULL: none */
	char *next_try;
	int64_t asked, answered; /* orders to ask the vault; answered < asked: that goes on */
};

struct key_view {
	bool configured, live; /* live: of the running service; else from its records */
	struct jd_list items; /* of struct view_key */
};

extern const struct jd_type key_view_type;

/* What jd_encode() made of one: of as many certificates as settings can hold. */
_nodiscard_ int key_view_decode(const char *text, size_t len, struct key_view *ret, struct error *err);

/* What the record says. The state is judged from it alone: `late` says whether the first install has taken too long, `days`
 * which warning of the settings is reached (-1: none). -ENOMEM. */
_nodiscard_ int key_view_set_record(struct view_key *v, const struct key_record *r, bool installed, bool late, int64_t days,
				    usec_t now_wall);

/* What needs attention first: not installed, then by expiry; what does not expire comes last. */
void key_view_sort(struct key_view *v);

const struct view_key *key_view_find(const struct key_view *v, const char *name);
