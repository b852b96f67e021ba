/*
 * What is told of applying user data: the second half of the component's sentence, and the document of GET /v1/userdata,
 * which `evenkeel userdata` reads (or makes from the files where no service runs). Pure. Never of the content.
 */
#pragma once

#include "agent/base/buf.h"
#include "agent/base/time.h"
#include "agent/codec/json.h"
#include "agent/core/status.h"
#include "agent/core/userdata_apply.h"
#include "agent/core/userdata_plan.h"

enum userdata_phase {
	USERDATA_IDLE,
	USERDATA_WAITING_CLOUD_INIT,
	USERDATA_WAITING_LOCKS,
	USERDATA_FETCHING, /* what includes name */
	USERDATA_DELAYED,  /* before a further try */
	USERDATA_PAUSED,   /* by an operator, before the next part */
	USERDATA_APPLYING,
};

struct userdata_progress {
	int phase;	     /* enum userdata_phase */
	usec_t since_boot;   /* of the wait or the run */
	usec_t next_boot;    /* USERDATA_DELAYED, and USERDATA_FETCHING before a further try: the next one; 0: now */
	const char *problem; /* why the last fetch failed, or NULL */
	const char *settings_problem; /* why a settings part is not in force, or NULL */
};

/* Appends "; applied …" and, a line each, the parts. The level of the whole is the worse of this and `level`. */
enum status_level userdata_tell(const struct userdata_memory *m, const struct userdata_settings *s, const char *sha256,
				const struct userdata_progress *p, enum status_level level, usec_t now_boot,
				struct buf *out, int *ret_code);

struct userdata_view {
	char *action, *source; /* as in the settings; "" without a section */
	char *level, *message; /* of the component; NULL where no service runs */
	struct userdata_record watch;
	struct userdata_memory memory;
};
extern const struct jd_type userdata_view_type; /* released with jd_free() */

/* "1 of 3 parts failed", "2 parts" …: how a revision went, as a phrase. */
void userdata_phrase(const struct userdata_revision *r, struct buf *out);
