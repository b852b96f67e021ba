/*
 * What takes the place of a handler whose record was written by a later version: it touches nothing, and says so. The daemon goes
 * on without it, so that listener and status answer, and the others do their work.
 */
#pragma once

#include "agent/base/error.h"
#include "handlers/common/handler.h"

extern const struct handler_class refused_class;

/* `why` is told as it is. */
_nodiscard_ int refused_new(const struct handler_class *instead_of, const char *why, struct handler **ret,
			    struct error *err);
/* The sentence of the stand-in. */
const char *refused_why(const struct handler *h);
