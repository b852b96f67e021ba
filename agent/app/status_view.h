/* The local API's status as a screen for people. */
#pragma once

#include <stdio.h>

#include "agent/base/buf.h"
#include "agent/base/error.h"

/* `columns` 0: not a terminal, nothing is cut. */
_nodiscard_ int status_view_print(const struct buf *reply, unsigned columns, FILE *out, struct error *err);
