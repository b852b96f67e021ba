/*
 * The version before the newest one. The Key Vault extension puts the two newest into its store, so the first time a store
 * of its kind is filled the one before is asked for, too, and its files are written first. Later it is there by itself. For
 * this handler's own files only.
 */
#pragma once

#include <stdbool.h>

struct item;
struct vault_secret;

/* `newest` is about to be installed. Once for each newest version. */
bool older_is_wanted(const struct item *i, const struct vault_secret *newest);
/* Then the newest is asked for again. That the one before cannot be had is no failure of the certificate. */
void older_begin(struct item *i, const struct vault_secret *newest);
