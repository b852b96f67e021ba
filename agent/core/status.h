/*
 * The status model of settings.md part 3, pure. Components report what is true now; the model decides what the
 * sequence number's deployment has come to, with the latch, and makes the document of N.status within the limits.
 *
 * A component may carry a duty: something that must end well before this sequence number is applied. The top level
 * depends on duties only: error as soon as one has finally failed, else transitioning while one is open, else success.
 * Latch: success is for ever for its number; error may become success, never transitioning.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agent/base/buf.h"
#include "agent/base/error.h"
#include "agent/base/time.h"
#include "agent/codec/json.h"

enum status_level { STATUS_TRANSITIONING, STATUS_ERROR, STATUS_SUCCESS, STATUS_WARNING, _STATUS_LEVEL_MAX };
enum duty { DUTY_NONE, DUTY_OPEN, DUTY_DONE, DUTY_FAILED };

const char *status_level_name(enum status_level l); /* lower case, as the agent wants it */

/* What one component says of itself. Texts are borrowed for the call only. */
struct component {
	const char *name;    /* settings, customScript/<name>, keyRefresh/<name>, drain, userData, health */
	enum status_level level;
	enum duty duty;
	int code;	     /* exit_codes.h; 0 when there is none */
	const char *message; /* a whole sentence */
	bool has_output; /* the message ends with a script's output: it may be as long as LIMIT_STATUS_OUTPUT, as a headline may */
	const char *headline; /* for the top message when this decides it ("Enable succeeded: …", "Enable failed: …"); NULL: made here */
};

struct status_model; /* the picture of one sequence number */

_nodiscard_ int status_model_new(struct status_model **ret);
void status_model_free(struct status_model *m);

/* A new goal state: forgets components and latch. `accepted` is the first top message ("Sequence 4 accepted: …"). */
_nodiscard_ int status_model_begin(struct status_model *m, const char *sequence, const char *accepted);
/* Continues a recorded one: the latched top level of that number (transitioning, error or success) and its message. */
_nodiscard_ int status_model_resume(struct status_model *m, const char *sequence, enum status_level latched,
				    const char *message);

/* A round: begin, every component once, end. What was not reported in a round is gone. */
void status_round_begin(struct status_model *m);
_nodiscard_ int status_round_add(struct status_model *m, const struct component *c);
void status_round_end(struct status_model *m);

enum status_level status_top(const struct status_model *m);
bool status_terminal(const struct status_model *m);
const char *status_top_message(const struct status_model *m);
int status_top_code(const struct status_model *m);

/* Appends the document of N.status ([{version, timestampUTC, status}]): at most LIMIT_STATUS_FILE bytes, every
 * formattedMessage present, messages cut at UTF-8 borders, more than 90 certificates summed up, at most 100 substatus.
 * Texts that are not valid UTF-8 are cleaned. */
_nodiscard_ int status_document(const struct status_model *m, const char *handler_name, usec_t now_wall, struct buf *out);
/* True when the document would differ from the last one written in more than its times. */
bool status_changed(const struct status_model *m, const char *previous_digest, char ret_digest[static 65]);

DEFINE_CLEANUP(struct status_model *, status_model_free)
