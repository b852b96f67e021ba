/*
 * What keeps secrets out of a text that goes to other people: values that it has learnt are replaced, wherever and however
 * often they stand in it, and so is everything that looks like a token, a private key or a signature.
 */
#pragma once

#include <stddef.h>

#include "agent/base/buf.h"
#include "agent/base/macros.h"

struct documents;
struct filter;

#define FILTER_SECRET_MIN 4 /* bytes: shorter ones stand everywhere by chance */

_nodiscard_ int filter_new(struct filter **ret); /* -ENOMEM */
void filter_free(struct filter *f);		 /* erases */

/* Every text of the protected settings, of secrets.json, and every URI's query of the public ones, as they are and as JSON
 * writes them. Documents that are broken are learnt as far as they can be read. -ENOMEM. */
_nodiscard_ int filter_learn(struct filter *f, const struct documents *docs);

/* Appends the text as others may read it. */
_nodiscard_ int filter_apply(const struct filter *f, const char *text, size_t len, struct buf *out);
