/* The types that a schema meets. For json_schema*.c only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agent/codec/json_internal.h"

#define JD_MET_MAX  1024
#define JD_MET_NAME 64

/* The same table reads differently inside a lenient object, so it counts as two. */
struct jd_met {
	const struct jd_type *type;
	bool lenient;
	unsigned uses;
	char name[JD_MET_NAME];
};

struct jd_met_list {
	struct jd_met *met; /* room for JD_MET_MAX; the caller's */
	size_t n;
	bool secret_ref; /* some place takes {"secretRef": …} */
};

/* Meets a document's type and all below it. -E2BIG. */
_nodiscard_ int jd_meet(struct jd_met_list *l, const struct jd_type *document);
/* NULL: not met. */
const struct jd_met *jd_met_find(const struct jd_met_list *l, const struct jd_type *t, bool lenient);
/* Whether it is written once and referred to: it stands in several places, and is longer than a reference. */
bool jd_met_is_shared(const struct jd_met *m);
