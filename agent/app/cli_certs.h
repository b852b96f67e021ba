/* `evenkeel certs`: its parts, for its own files only. */
#pragma once

#include "agent/core/key_view.h"

/* cli_certs_check.c: prints what is wrong with what is on disk, item by item; the exit code tells the worst. */
int certs_check(const struct key_view *v);
