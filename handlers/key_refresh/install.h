/*
 * The jobs that write what came out of a vault and remove it again (agent/core/job.h). For this handler's own files
 * only.
 */
#pragma once

#include <stddef.h>

#include "agent/base/error.h"
#include "agent/core/job.h"
#include "agent/core/key_plan.h"

struct paths;
struct x509_bundle;

/* A job with what it needs beside it; release with key_job_done(), which erases. */
struct key_job {
	struct job job;
	struct job_secrets secrets;
	char *writable;      /* the directory that must be writable: the nearest one that is there */
	const char *opening; /* another one, above the directories that may be opened; NULL: none */
};

void key_job_done(struct key_job *j);

/* Writes the files of `bundle` (a certificate) or `value` (a plain secret) as the item's wish says. */
_nodiscard_ int key_job_install(const struct paths *paths, const struct key_item *item, const struct key_found *found,
				const struct x509_bundle *bundle, const char *value, size_t len, struct key_job *ret,
				struct error *err);
/* The same in steps, for a renewal that is checked and can be taken back: made beside what is in use … */
_nodiscard_ int key_job_stage(const struct paths *paths, const struct key_item *item, const struct key_found *found,
			      const struct x509_bundle *bundle, const char *value, size_t len, struct key_job *ret,
			      struct error *err);
enum key_switch {
	KEY_SWITCH,	 /* … put in its place; everything former stays … */
	KEY_SWITCH_BACK, /* … or taken back, and removed … */
	KEY_SWITCH_KEEP, /* … or left there, and what is too old goes. */
};
/* `set`: what is to be in use then, `other`: what was made and is removed (KEY_SWITCH_BACK); NULL: plain files. */
_nodiscard_ int key_job_switch(const struct paths *paths, const struct key_item *item, enum key_switch how, const char *set,
			       const char *other, struct key_job *ret, struct error *err);
_nodiscard_ int key_job_remove(const struct paths *paths, const struct key_item *item, struct key_job *ret,
			       struct error *err);
/* Removes versions of a store (STORE_KV3, STORE_KV4) that are more than keepVersions. 1: there is something to do, else
 * 0. */
_nodiscard_ int key_job_prune(const struct paths *paths, const struct key_item *item, struct key_job *ret,
			      struct error *err);
