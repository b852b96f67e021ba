/*
 * What the agent asks for: the sequence number and its settings file (extension-contract.md 3).
 * The number comes from ConfigSequenceNumber, else from the newest *.settings; numbers are compared with !=, as text.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agent/base/error.h"
#include "agent/base/secret.h"

#define SEQUENCE_MAX 24

/* `from_environment` is the variable's value or NULL. A value that is no number is an error that names it. -ENOENT: neither. */
_nodiscard_ int goal_state_sequence(const char *from_environment, const char *config_folder, char ret[static SEQUENCE_MAX],
				    struct error *err);

/* The settings as received: nothing decrypted. */
struct goal_settings {
	bool absent;	      /* an empty file: nothing configured */
	char *public_text;    /* JSON object text, or NULL */
	char *protected_blob; /* base64 CMS, or NULL */
	char *thumbprint;     /* 40 hex digits, upper case, or NULL */
};

/* What is in N.settings. Accepts: nothing, null members, `publicSettings` as an object or as a JSON text. Errors name the
 * file and what is wrong (not JSON; runtimeSettings is not one element; protected settings without thumbprint; larger than
 * LIMIT_SETTINGS_FILE). */
_nodiscard_ int goal_settings_parse(const char *text, size_t len, const char *file, struct goal_settings *ret,
				    struct error *err);
void goal_settings_done(struct goal_settings *g);

/* Decrypts with LIBDIR/THUMBPRINT.crt and .prv. -ENOENT (class transient): certificate or key is not there (yet);
 * the message names the file and the agent's part in it. */
_nodiscard_ int goal_settings_decrypt(const struct goal_settings *g, const char *lib_dir, struct secret *ret,
				      struct error *err);
