/*
 * Settings that user data has brought (door 2), as they are in force: one file below state/, so that they hold from the
 * first moment after a boot, whether the metadata service answers or not.
 */
#pragma once

#include "agent/base/error.h"
#include "agent/codec/digest.h"
#include "agent/codec/json.h"

struct paths;

struct user_document {
	char *name; /* "user data, part 3" */
	char *text;
};

struct user_settings {
	char *revision;		  /* SHA-256 of the user data they stand in */
	struct jd_list documents; /* of struct user_document */
};
extern const struct jd_type user_settings_type; /* released with jd_free() */

/* None at all is not an error. */
_nodiscard_ int user_settings_read(const struct paths *p, struct user_settings *ret, struct error *err);
/* Without a document the file goes. */
_nodiscard_ int user_settings_write(const struct paths *p, const struct user_settings *s, struct error *err);
void user_settings_done(struct user_settings *s);
/* What "the same settings" means: their texts, whatever else the user data holds. */
_nodiscard_ int user_settings_hash(const struct user_settings *s, char ret[static SHA256_HEX_MAX], struct error *err);
