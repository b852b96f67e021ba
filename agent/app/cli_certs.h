/* `evenkeel certs`: its parts, for its own files only. */
#pragma once

#include "agent/base/error.h"
#include "agent/core/key_view.h"

struct paths;

/* cli_certs.c: what the files tell where no service runs. */
_nodiscard_ int certs_load_records(const struct paths *p, struct key_view *ret, struct error *err);

/* cli_certs_check.c: prints what is wrong with what is on disk, item by item; the exit code tells the worst. */
int certs_check(const struct key_view *v);
