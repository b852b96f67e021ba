/*
 * User data as it is watched (design.md 4, user-data.md A): what an answer of the metadata service means against
 * what was seen before, when to look again, and the sentence of the component. Pure: bytes and times come in.
 *
 * An empty answer proves nothing: a provider of the service may have failed. It counts only after
 * USERDATA_EMPTY_LOOKS of them in a row, spaced, and the last content seen is kept all the same.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/buf.h"
#include "agent/base/error.h"
#include "agent/base/time.h"
#include "agent/codec/digest.h"
#include "agent/codec/json.h"
#include "agent/core/retry.h"
#include "agent/core/status.h"
#include "agent/core/userdata_detect.h"

struct userdata_settings; /* settings_common.h */

#define USERDATA_RECORD_VERSION 1
#define USERDATA_REVISION_CHARS 12
#define USERDATA_EMPTY_LOOKS	3
#define USERDATA_EMPTY_USEC	(10 * USEC_PER_SEC) /* at most, between two looks while an empty answer is in doubt */
#define USERDATA_JITTER_PERCENT 10

enum userdata_change { USERDATA_SAME, USERDATA_FIRST, USERDATA_CHANGED, USERDATA_REMOVED, USERDATA_RETURNED };

/* The durable part: what the copy that is kept is, and what was last seen to happen. */
struct userdata_record {
	char *sha256; /* of the decoded bytes; NULL: nothing was ever seen */
	int64_t size;
	int64_t source; /* enum userdata_source: where it was seen; kept by the shell */
	struct userdata_form form;
	int change;		/* enum userdata_change, the last one but SAME */
	int64_t seen_usec;	/* wall: when this content was first seen */
	int64_t confirmed_usec; /* wall: the last answer that agreed; saved once an hour */
	int64_t removed_usec;	/* wall: since when the service says there is none; 0: it is there */
};

extern const struct jd_type userdata_record_type;
_nodiscard_ int userdata_record_encode(const struct userdata_record *r, struct buf *out);
_nodiscard_ int userdata_record_decode(const char *text, size_t len, struct userdata_record *ret, struct error *err);
void userdata_record_done(struct userdata_record *r);

/* The state of the watch; all zero but for the record at the start. */
struct userdata_plan {
	struct userdata_record record;
	usec_t saved_usec; /* confirmed_usec of the record as it was last saved */
	bool copy_due;	   /* the bytes have not been kept yet */
	bool unset;	   /* confirmed: there is none, and there never was */
	unsigned empties;  /* in a row */
	struct retry_state retry;
	struct error problem;	   /* of the last look; msg "" when it was answered */
	struct error copy_problem; /* the copy or the record could not be written */
	usec_t next_boot;	   /* the next look */
};

void userdata_plan_done(struct userdata_plan *p);

/* What the shell does next: keep a copy of the bytes it holds, save the record, look again at plan.next_boot. */
struct userdata_step {
	enum userdata_change change;
	bool keep_copy, save;
	bool recovered; /* the first answer after failures */
	bool tell;	/* the component's sentence has changed */
};

struct userdata_clock {
	usec_t interval;
	uint32_t random;
	usec_t now_boot, now_wall;
};

/* An answer with these decoded bytes. -ENOMEM, -EIO: the digest could not be made; nothing has changed then. */
_nodiscard_ int userdata_answered(struct userdata_plan *p, const void *data, size_t len, const struct userdata_clock *c,
				  struct userdata_step *ret);
/* No answer: HTTP status or 0, Retry-After or 0, and why. */
void userdata_failed(struct userdata_plan *p, int status, usec_t retry_after, const struct error *why,
		     const struct userdata_clock *c, struct userdata_step *ret);
/* The copy as it was found on disk at the start, NULL: none. What does not agree with the record is put right at the
 * next answer; a copy without a record is taken for what was seen. */
_nodiscard_ int userdata_found(struct userdata_plan *p, const void *data, size_t len, usec_t now_wall);

/* The component's level, code and whole sentence; never a byte of the content. */
enum status_level userdata_describe(const struct userdata_plan *p, const struct userdata_settings *s, usec_t now_boot,
				    usec_t now_wall, struct buf *out, int *ret_code);
