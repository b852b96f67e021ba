/*
 * What the metadata service says of this VM (name, id, size, scale set), for the screen of `evenkeel status`. It is asked when
 * somebody looks, not before, and once; a copy below /run tells it where no daemon runs.
 */
#pragma once

#include <stdbool.h>

#include "agent/base/buf.h"
#include "agent/base/error.h"

struct daemon;
struct machine_facts;

#define MACHINE_FACTS_FILE "machine.json"
#define MACHINE_FACTS_MAX  (16UL * 1024)

_nodiscard_ int machine_facts_new(struct daemon *d, struct machine_facts **ret, struct error *err);
void machine_facts_free(struct machine_facts *m);

/* Appends {"name", "vmId", "size", "scaleSet", "location", "resourceId", "asking", "problem"}, without what is not known.
 * Asks the metadata service when nothing is known; "asking" is true until that has ended. */
void machine_facts_look(struct machine_facts *m, struct buf *out);

DEFINE_CLEANUP(struct machine_facts *, machine_facts_free)
