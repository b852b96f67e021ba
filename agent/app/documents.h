/*
 * Where settings come from: what the platform has handed over (goal.json) and the files below /etc. The daemon and the
 * commands that look on read the same. Nothing here judges: settings_load() does.
 */
#pragma once

#include "agent/app/goal_request.h"
#include "agent/app/user_settings.h"
#include "agent/azure/goal_state.h"
#include "agent/base/buf.h"
#include "agent/base/error.h"
#include "agent/base/limits.h"
#include "agent/base/secret.h"
#include "agent/core/settings.h"
#include "agent/io/http.h"

struct paths;

struct documents {
	struct goal_settings received;
	struct secret decrypted;
	struct buf files[LIMIT_DROPIN_FILES + 1];
	char *names[LIMIT_DROPIN_FILES + 1];
	size_t n_files;
	struct buf secrets;
	struct user_settings user; /* filled by who wants it: user_settings_read() */
};

#define DOCUMENTS_SOURCES (LIMIT_DROPIN_FILES + 2 + LIMIT_USER_DATA_SETTINGS)

/* Reads all of them into a zeroed value; release it in any case. A document that is absent is none. -ENOENT of class
 * transient: the certificate of the protected settings is not there (yet). */
_nodiscard_ int documents_read(const struct paths *p, const struct goal_request *g, struct documents *docs,
			       struct error *err);
void documents_done(struct documents *docs); /* erases what is secret */

/* For settings_load(); point into the documents and into `user` (NULL: no settings of user data). How many. */
size_t documents_sources(const struct documents *docs, const struct user_settings *user,
			 struct settings_source out[static DOCUMENTS_SOURCES]);
/* As the daemon puts them in force, for who looks on: settings of user data (docs->user) that are refused do not count, and
 * *refused says why; else its message stays "". */
_nodiscard_ int documents_load(const struct documents *docs, struct settings *s, struct jd_report *report,
			       struct error *refused, struct error *err);
/* "installation/sequence/hash", heap: equal keys mean that nothing new is due. */
_nodiscard_ int documents_key(const struct goal_request *g, const struct documents *docs, char **ret,
			      struct error *err);
/* The same of what the files below /etc say, whatever goal state there is; without one it is the key of all. */
#define DOCUMENTS_FILES "files" /* their installation */
_nodiscard_ int documents_files_key(const struct documents *docs, char **ret, struct error *err);

/* How these settings reach the network. Everything is borrowed from them. */
#define DOCUMENTS_NO_PROXY 65
void documents_network(const struct settings *s, const char *no_proxy[static DOCUMENTS_NO_PROXY],
		       struct http_options *ret);
