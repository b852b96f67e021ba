/*
 * Which files one certificate or plain secret consists of, and where (settings.md 1.2; of the Key Vault extension's
 * store: key-vault.md A.2). For this handler's own files only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agent/base/error.h"
#include "agent/core/key_plan.h"

struct paths;

#define KEY_FILES_MAX 6
#define KEY_STORE_MAX 20000 /* names in a store that is looked through */

enum key_part {
	PART_SECRET,
	PART_FULLCHAIN,
	PART_CERTIFICATE,
	PART_CHAIN,
	PART_KEY,
	PART_COMBINED, /* full chain, then key */
	PART_PKCS12,
	PART_NOTE, /* the store's .luma */
	PART_LINK,
};

/* As people and programs are told: "fullchain", "key" … */
const char *key_part_name(enum key_part part);
bool key_part_has_key(enum key_part part);

struct key_file {
	enum key_part part;
	char *name;
	char *link;	/* PART_LINK: what it shows */
	bool everybody; /* may read it: no key is in it, and the settings' mode is not meant */
};

struct key_layout {
	char *directory;
	struct key_file files[KEY_FILES_MAX]; /* in the order in which they are written */
	size_t n;
	bool is_set; /* switched as a whole; else each is a file of its own */
};

void key_layout_done(struct key_layout *l);

/* -ENOMEM only. `found` NULL: only what applications open, by the names they know. */
_nodiscard_ int key_layout_find(const struct paths *paths, const struct key_wish *w, const struct key_found *found,
				struct key_layout *ret);

/* False only when a file is surely missing. */
bool key_layout_there(const struct paths *paths, const struct key_wish *w);

/* Names of files of a store that belong to versions beyond keepVersions; `current` is never among them. At most 64, the
 * oldest first: the rest goes the next time. */
_nodiscard_ int key_layout_stale(const struct key_layout *l, const struct certificate_settings *c, const char *current,
				 char ***ret, struct error *err);
