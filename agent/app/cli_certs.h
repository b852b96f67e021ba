/* `evenkeel certs`: its parts, for its own files and for the doctor. */
#pragma once

#include "agent/base/error.h"
#include "agent/core/key_view.h"

struct paths;

/* cli_certs.c: what the service has left on disk, for when it does not run. None at all is not an error. */
_nodiscard_ int certs_load_records(const struct paths *p, struct key_view *ret, struct error *err);

/* One complaint about the item `name` (EXIT_ATTENTION or EXIT_FAILED), or "ok" (EXIT_OK). */
typedef void (*certs_tell_fn)(const char *name, int code, const char *text, void *userdata);
/* cli_certs_check.c: tells what is wrong with what is on disk, item by item; the exit code tells the worst. */
int certs_check(const struct key_view *v, certs_tell_fn tell, void *userdata);
