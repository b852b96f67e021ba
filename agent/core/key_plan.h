/*
 * One certificate or plain secret of key refresh as it is watched: what was found in the vault against what is
 * installed, when to ask again, and the sentence of its component (settings.md 3.2). Pure: facts and times come in.
 *
 * Nothing good is ever given up: an expired, not yet valid or older certificate never replaces what is installed, and a
 * failure leaves everything as it is.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/buf.h"
#include "agent/base/error.h"
#include "agent/base/time.h"
#include "agent/codec/digest.h"
#include "agent/core/key_activation.h"
#include "agent/core/retry.h"
#include "agent/core/settings_keys.h"
#include "agent/core/status.h"

#define KEY_JITTER_PERCENT 10
#define KEY_PARALLEL       4 /* vault requests and installs at a time */
/* The vault and this machine may disagree a little on what time it is. */
#define KEY_SKEW_USEC (5 * USEC_PER_MINUTE)
#define KEY_SET_MAX    96 /* name of a set on disk */
#define KEY_OPENED_MAX 64

/* The durable part: what is installed, and how the last try ended. */
#define KEY_RECORD_FORMAT 1 /* agent/codec/json_record.h */

struct key_record {
	char *url;
	char *shape; /* digest of the settings that shape the files */
	char *salt;  /* of that digest; random, and told to nobody */
	char *version, *thumbprint;
	char *previous; /* version, as the vault told; "": it did not */
	char *identity;                                                        /* that it was read with */
	int64_t created_usec, not_before_usec, not_after_usec, installed_usec; /* wall; 0: not told */
	bool incomplete;                                                       /* the chain */
	char *error;                                                           /* of the last try; NULL: it went well */
	int64_t next_usec;
	int64_t warned_days; /* the least of expiryWarningInDays that was told of this version; -1: none */
	char *set;                        /* its name on disk; NULL: plain files */
	char *unreachable;                /* who cannot get at the files, and why: a sentence, or NULL */
	struct jd_list opened;            /* of char *: what was done to let them (job.h) */
	char *directory;                  /* where the files are … */
	struct jd_list files;             /* … and, of char *, what they are called, the newest last: for who removes them without settings */
	struct jd_list former;            /* of char *, paths: of files where settings before these wanted them, for the same */
	struct key_activation activation; /* of a newer version, or what is left to do of this one */
};

_nodiscard_ int key_record_encode(const struct key_record *r, struct buf *out);
_nodiscard_ int key_record_decode(const char *text, size_t len, struct key_record *ret, struct error *err);
void key_record_done(struct key_record *r);

/* Since when a goal state asks for its certificates; over restarts of the daemon. */
struct key_goal {
	char *key;
	int64_t since_usec; /* wall */
};

_nodiscard_ int key_goal_encode(const struct key_goal *g, struct buf *out);
_nodiscard_ int key_goal_decode(const char *text, size_t len, struct key_goal *ret, struct error *err);
void key_goal_done(struct key_goal *g);
/* When the first installs have taken too long, on the boot clock. A wall clock that jumped cannot lengthen it. */
usec_t key_goal_deadline(const struct key_goal *g, usec_t timeout, usec_t now_boot, usec_t now_wall);

/* What is wanted: exactly one of the first two, borrowed from the settings, as is the password of the PKCS#12 file
 * (NULL: none is wanted, or it has none). */
struct key_wish {
	const struct certificate_settings *certificate;
	const struct key_secret_settings *secret;
	const char *password;
};

const char *key_name(const struct key_wish *w);
const char *key_url(const struct key_wish *w);
const struct activate_settings *key_activate(const struct key_wish *w);
const struct identity *key_identity(const struct key_refresh_settings *k, const struct key_wish *w);
/* A digest of the settings that shape the files (not: how many are kept), and of those that say where it comes from.
 * Parts of the first are seen by everybody in the names of sets: `salt` keeps a password from being found by trying. */
_nodiscard_ int key_shape(const struct key_wish *w, const char *salt, char ret[static SHA256_HEX_MAX]);
_nodiscard_ int key_origin(const struct key_refresh_settings *k, const struct key_wish *w,
			   char ret[static SHA256_HEX_MAX]);

struct key_item {
	struct key_wish wish;
	char shape[SHA256_HEX_MAX], origin[SHA256_HEX_MAX];
	struct key_record record;
	struct retry_state vault, work;
	struct error problem; /* of the last try; msg "" when it went well */
	int problem_status;   /* HTTP status of it, or 0 */
	bool newest_disabled; /* in the vault, when it was asked last */
	usec_t next_boot;     /* the next try */
	usec_t deadline_boot; /* of the first install under these settings */
	bool spread;	      /* it has had a poll of its own: no longer at the moment at which all began */
};

void key_item_done(struct key_item *i);
/* Installed as these settings want it. */
bool key_installed(const struct key_item *i);

/* What the vault has now. */
struct key_found {
	char version[64];
	char previous[64];                     /* version; "": not told */
	char thumbprint[41];                   /* "" of a plain secret */
	usec_t created, not_before, not_after; /* 0: not told; a plain secret has no dates of its own */
	bool incomplete;
	bool older; /* put beside the newest: its own files only, applications see another */
};

enum key_verdict {
	KEY_KEEP,    /* nothing has changed */
	KEY_INSTALL, /* this version, now */
	KEY_REFUSE,  /* what is installed stays; *why says why */
};
/* `files_there`: what the record says is installed can be seen on disk. `pinned`: the URL names a version. */
enum key_verdict key_judge(const struct key_item *i, const struct key_found *f, bool pinned, bool files_there,
			   usec_t now_wall, struct error *why);
/* The name of the set on disk; a set that lost files is made again beside itself. */
const char *key_set_name(const struct key_item *i, const struct key_found *f, char out[static KEY_SET_MAX]);

struct key_clock {
	usec_t interval;
	uint32_t random;
	usec_t now_boot, now_wall;
};
/* How a try ended: the plan says when the next one is. */
void key_kept(struct key_item *i, const struct key_clock *c);
/* The name of the set is the caller's to note. What is told of activation and reach stays. */
_nodiscard_ int key_was_installed(struct key_item *i, const struct key_found *f, const char *shape, const char *url,
				  const char *identity, const struct key_clock *c);
/* `status` and `retry_after` of the vault, 0: none. */
void key_fetch_failed(struct key_item *i, int status, usec_t retry_after, const struct error *why,
		      const struct key_clock *c);
/* On this machine: parsing, writing. */
void key_install_failed(struct key_item *i, const struct error *why, const struct key_clock *c);
/* Asked again at the next poll. */
void key_refused(struct key_item *i, const struct error *why, const struct key_clock *c);

/* The least of `expiry_warning_days` that is reached, -1: none. */
int64_t key_expiry_days(const struct key_refresh_settings *k, const struct key_record *r, usec_t now_wall);

/* Level, duty and code into *ret, the whole sentence into `out`. */
void key_describe(const struct key_item *i, const struct key_refresh_settings *k, usec_t now_boot, usec_t now_wall,
		  struct buf *out, struct component *ret);
