/*
 * The daemon's durable truth about deployments: which key was accepted last, and what its top level has latched to.
 * N.status is its picture (settings.md 3.3).
 */
#pragma once

#include "agent/base/error.h"
#include "agent/base/macros.h"

struct paths;
struct deployment_store;

struct deployment {
	char *sequence, *key; /* newest goal state; key "" while it could not be read yet */
	char *top;	/* transitioning | success | error */
	char *message;
	char *accepted_sequence, *accepted_key; /* the one in force */
};

_nodiscard_ int deployment_open(const struct paths *p, struct deployment_store **ret, struct error *err);
void deployment_close(struct deployment_store *s);
/* In place; save after changing. */
struct deployment *deployment_of(struct deployment_store *s);
/* Why nothing is written, since a later version's record stands there; NULL: it is. */
const char *deployment_refused(const struct deployment_store *s);
_nodiscard_ int deployment_save(struct deployment_store *s, struct error *err);

DEFINE_CLEANUP(struct deployment_store *, deployment_close)
