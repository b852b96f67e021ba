/* The steps by which a renewed certificate comes into use, as one table, and what is told of them. */
#include "agent/core/key_activation.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/timefmt.h"
#include "agent/core/retry.h"

/* A reload that fails hurts each time, so a version that was rolled back is not tried for ever. */
#define ROLLBACKS_MAX 5
#define WHY_MAX	      700 /* both of them, and all else that is said of an item, fit into one message */

/* clang-format off */
static const struct retry_rule check_rules[] = { { 0, 999, RETRY_AFTER, USEC_PER_MINUTE, USEC_PER_HOUR, 0 }, { -1 } };
static const struct retry_rule rollback_rules[] = { { 0, 999, RETRY_AFTER, 15 * USEC_PER_MINUTE, USEC_PER_DAY, 0 }, { -1 } };
static const struct retry_rule again_rules[] = { { 0, 999, RETRY_AFTER, 2 * USEC_PER_SEC, 5 * USEC_PER_MINUTE, 0 }, { -1 } };
static const struct retry_policy retry_check = { "check", check_rules, 10, USEC_PER_HOUR };
static const struct retry_policy retry_rollback = { "rollback", rollback_rules, 10, USEC_PER_DAY };
static const struct retry_policy retry_again = { "activation", again_rules, 10, USEC_PER_HOUR };

/* ---- the record ---- */

const char *const key_activation_names[] = { "none", "staging", "checking", "switching", "testing", "reloading", "verifying",
					     "undoing", "reverting", "reviving", NULL };

static const struct jd_type text_type = { .kind = JD_TEXT, .max = LIMIT_URI };
static const struct jd_type number_type = { .kind = JD_INTEGER, .max = INT64_MAX };
static const struct jd_type flag_type = { .kind = JD_BOOLEAN };
static const struct jd_type units_type = { .kind = JD_LIST, .max = 32, .element = &text_type };
static const struct jd_type step_type = { .kind = JD_CHOICE, .names = key_activation_names };

static const struct jd_field candidate_fields[] = {
	{ "url",           &text_type,   offsetof(struct key_candidate, url) },
	{ "shape",         &text_type,   offsetof(struct key_candidate, shape) },
	{ "version",       &text_type,   offsetof(struct key_candidate, version) },
	{ "thumbprint",    &text_type,   offsetof(struct key_candidate, thumbprint) },
	{ "identity",      &text_type,   offsetof(struct key_candidate, identity) },
	{ "set",           &text_type,   offsetof(struct key_candidate, set) },
	{ "createdUsec",   &number_type, offsetof(struct key_candidate, created_usec),    JD_OMIT_EMPTY },
	{ "notBeforeUsec", &number_type, offsetof(struct key_candidate, not_before_usec), JD_OMIT_EMPTY },
	{ "notAfterUsec",  &number_type, offsetof(struct key_candidate, not_after_usec),  JD_OMIT_EMPTY },
	{ "incomplete",    &flag_type,   offsetof(struct key_candidate, incomplete),      JD_OMIT_EMPTY },
	{ NULL },
};
static const struct jd_type candidate_type = { .kind = JD_OBJECT, .fields = candidate_fields, .size = sizeof(struct key_candidate) };

static const struct jd_field rejection_fields[] = {
	{ "version",   &text_type,   offsetof(struct key_rejection, version) },
	{ "why",       &text_type,   offsetof(struct key_rejection, why) },
	{ "step",      &step_type,   offsetof(struct key_rejection, step) },
	{ "times",     &number_type, offsetof(struct key_rejection, times),      JD_OMIT_EMPTY },
	{ "againUsec", &number_type, offsetof(struct key_rejection, again_usec), JD_OMIT_EMPTY },
	{ NULL },
};
static const struct jd_type rejection_type = { .kind = JD_OBJECT, .fields = rejection_fields, .size = sizeof(struct key_rejection) };

const struct jd_field key_activation_fields[] = {
	{ "step",      &step_type,      offsetof(struct key_activation, step) },
	{ "first",     &flag_type,      offsetof(struct key_activation, first),      JD_OMIT_EMPTY },
	{ "checked",   &flag_type,      offsetof(struct key_activation, checked),    JD_OMIT_EMPTY },
	{ "owed",      &flag_type,      offsetof(struct key_activation, owed),       JD_OMIT_EMPTY },
	{ "former",    &text_type,      offsetof(struct key_activation, former) },
	{ "active",    &units_type,     offsetof(struct key_activation, active),     JD_OMIT_EMPTY },
	{ "candidate", &candidate_type, offsetof(struct key_activation, candidate) },
	{ "why",       &text_type,      offsetof(struct key_activation, why) },
	{ "tries",     &number_type,    offsetof(struct key_activation, tries),      JD_OMIT_EMPTY },
	{ "againUsec", &number_type,    offsetof(struct key_activation, again_usec), JD_OMIT_EMPTY },
	{ "rejected",  &rejection_type, offsetof(struct key_activation, rejected) },
	{ "untold",    &text_type,      offsetof(struct key_activation, untold) },
	{ NULL },
};

/* ---- the table ---- */

/* A first install has nothing to go back to: its failures have a column of their own. */
enum { FAILED_FIRST = _ACTIVATION_ENDS, INPUTS };

struct cell {
	unsigned char next, action;
};
#define GO(s)	  { ACTIVATION_##s, ACTIVATION_DO }
#define AGAIN(s)  { ACTIVATION_##s, ACTIVATION_LATER }
#define END(a)	  { ACTIVATION_NONE, ACTIVATION_##a }

static const struct cell table[_ACTIVATION_STEPS][INPUTS] = {
	[ACTIVATION_NONE] = {
		[ACTIVATION_OK] = END(IDLE), [ACTIVATION_FAILED] = END(IDLE), [FAILED_FIRST] = END(IDLE),
		[ACTIVATION_LOST] = END(IDLE), [ACTIVATION_UNBOUND] = END(IDLE),
	},
	/* The content is in memory only: what is lost here is fetched again. */
	[ACTIVATION_STAGING] = {
		[ACTIVATION_OK] = GO(CHECKING), [ACTIVATION_FAILED] = END(DROP), [FAILED_FIRST] = END(DROP),
		[ACTIVATION_LOST] = END(DROP), [ACTIVATION_UNBOUND] = END(DROP),
	},
	[ACTIVATION_CHECKING] = {
		[ACTIVATION_OK] = GO(SWITCHING), [ACTIVATION_FAILED] = GO(UNDOING), [FAILED_FIRST] = GO(UNDOING),
		[ACTIVATION_LOST] = GO(CHECKING), [ACTIVATION_UNBOUND] = GO(SWITCHING),
	},
	[ACTIVATION_SWITCHING] = {
		[ACTIVATION_OK] = GO(TESTING), [ACTIVATION_FAILED] = GO(UNDOING), [FAILED_FIRST] = GO(UNDOING),
		[ACTIVATION_LOST] = GO(SWITCHING), [ACTIVATION_UNBOUND] = GO(SWITCHING),
	},
	[ACTIVATION_TESTING] = {
		[ACTIVATION_OK] = GO(RELOADING), [ACTIVATION_FAILED] = GO(UNDOING), [FAILED_FIRST] = GO(UNDOING),
		[ACTIVATION_LOST] = GO(TESTING), [ACTIVATION_UNBOUND] = GO(TESTING),
	},
	[ACTIVATION_RELOADING] = {
		[ACTIVATION_OK] = GO(VERIFYING), [ACTIVATION_FAILED] = GO(REVERTING), [FAILED_FIRST] = AGAIN(RELOADING),
		[ACTIVATION_LOST] = GO(RELOADING), [ACTIVATION_UNBOUND] = GO(RELOADING),
	},
	[ACTIVATION_VERIFYING] = {
		[ACTIVATION_OK] = END(SETTLE), [ACTIVATION_FAILED] = GO(REVERTING), [FAILED_FIRST] = END(SETTLE),
		[ACTIVATION_LOST] = GO(VERIFYING), [ACTIVATION_UNBOUND] = GO(VERIFYING),
	},
	[ACTIVATION_UNDOING] = {
		[ACTIVATION_OK] = END(REJECT), [ACTIVATION_FAILED] = AGAIN(UNDOING), [FAILED_FIRST] = AGAIN(UNDOING),
		[ACTIVATION_LOST] = GO(UNDOING), [ACTIVATION_UNBOUND] = GO(UNDOING),
	},
	[ACTIVATION_REVERTING] = {
		[ACTIVATION_OK] = GO(REVIVING), [ACTIVATION_FAILED] = AGAIN(REVERTING), [FAILED_FIRST] = AGAIN(REVERTING),
		[ACTIVATION_LOST] = GO(REVERTING), [ACTIVATION_UNBOUND] = GO(REVERTING),
	},
	[ACTIVATION_REVIVING] = {
		[ACTIVATION_OK] = END(REJECT), [ACTIVATION_FAILED] = AGAIN(REVIVING), [FAILED_FIRST] = AGAIN(REVIVING),
		[ACTIVATION_LOST] = GO(REVIVING), [ACTIVATION_UNBOUND] = GO(REVIVING),
	},
};
/* clang-format on */

/* A step with nothing to do in it goes well. */
static bool is_needed(const struct key_activation *a, const struct activation_needs *n)
{
	switch (a->step) {
	case ACTIVATION_CHECKING:
		return n->check && n->bind;
	case ACTIVATION_TESTING:
		return n->check && !a->checked;
	case ACTIVATION_RELOADING:
	case ACTIVATION_REVIVING:
		return n->reload;
	case ACTIVATION_VERIFYING:
		return n->verify && !a->first;
	default:
		return true;
	}
}

/* ---- what is remembered of failures ---- */

static int64_t later(const struct retry_policy *p, int64_t times, uint32_t random, usec_t now_wall)
{
	struct retry_state s = { .attempts = times > 1 ? (unsigned)(times - 1) : 0 };
	usec_t wait = USEC_PER_DAY, when;

	(void)retry_failed(p, &s, 0, 0, random, 0, &wait);
	when = usec_add(now_wall, wait);
	return when > (usec_t)INT64_MAX ? INT64_MAX : (int64_t)when;
}

/* What is lost for want of memory misleads nobody: the step says what failed. */
static void set_text(char **to, const char *text)
{
	_cleanup_free_ char *cut = text ? strndup(text, utf8_cut(text, strlen(text), WHY_MAX)) : NULL;

	if (str_set(to, cut) < 0)
		free(TAKE_PTR(*to));
}

static void reject(struct key_activation *a, const char *why, uint32_t random, usec_t now_wall)
{
	struct key_rejection *x = &a->rejected;
	bool reloaded = a->step == ACTIVATION_RELOADING || a->step == ACTIVATION_VERIFYING;

	if (!str_equal(x->version, a->candidate.version))
		x->times = 0;
	if (x->times < INT32_MAX)
		x->times++;
	x->step = a->step;
	x->again_usec = reloaded && x->times >= ROLLBACKS_MAX ?
				INT64_MAX :
				later(reloaded ? &retry_rollback : &retry_check, x->times, random, now_wall);
	set_text(&x->version, a->candidate.version);
	set_text(&x->why, why ? why : "it failed for an unknown reason");
}

static void note_try(struct key_activation *a, const char *why, uint32_t random, usec_t now_wall)
{
	if (a->tries < INT32_MAX)
		a->tries++;
	a->again_usec = later(&retry_again, a->tries, random, now_wall);
	set_text(&a->why, why ? why : "it failed for an unknown reason");
}

static void enter(struct key_activation *a, int step)
{
	if (step == a->step)
		return;
	a->step = step;
	a->tries = a->again_usec = 0;
	free(TAKE_PTR(a->why));
}

/* ---- going on ---- */

static enum activation_action take(struct key_activation *a, int input, const char *why, uint32_t random, usec_t now_wall)
{
	struct cell c = table[a->step][input];
	bool failed = input == ACTIVATION_FAILED || input == FAILED_FIRST;

	if (a->step == ACTIVATION_CHECKING && input == ACTIVATION_OK)
		a->checked = true;
	if (failed && c.action == ACTIVATION_DO)
		reject(a, why, random, now_wall);
	if (c.action == ACTIVATION_LATER)
		note_try(a, why, random, now_wall);
	enter(a, c.next);
	return (enum activation_action)c.action;
}

/* An end without a reload leaves one undone that was owed before. */
static enum activation_action pay(struct key_activation *a, int from, enum activation_action action)
{
	bool told = from == ACTIVATION_REVIVING || action == ACTIVATION_SETTLE;

	if (a->step != ACTIVATION_NONE || action == ACTIVATION_IDLE)
		return action;
	if (!a->owed || told) {
		jd_free(&units_type, &a->active);
		a->owed = false;
		return action;
	}
	a->owed = false;
	enter(a, ACTIVATION_REVIVING);
	return action == ACTIVATION_REJECT ? ACTIVATION_DO : action;
}

enum activation_action key_activation_ended(struct key_activation *a, const struct activation_needs *n,
					    enum activation_end end, const char *why, uint32_t random, usec_t now_wall)
{
	int input = end == ACTIVATION_FAILED && a->first ? FAILED_FIRST : (int)end, from = a->step;
	enum activation_action action = pay(a, from, take(a, input, why, random, now_wall));

	while (action == ACTIVATION_DO && !is_needed(a, n)) {
		bool checked = a->checked;

		from = a->step;
		action = pay(a, from, take(a, ACTIVATION_OK, NULL, random, now_wall));
		a->checked = checked; /* passed over is not passed */
	}
	return action;
}

/* A wall clock that was far ahead when the time was noted must not keep it back for years. */
static bool is_ahead(int64_t again, usec_t now_wall, usec_t most)
{
	usec_t left = usec_sub((usec_t)again, now_wall);

	return left && left <= 2 * most;
}

enum activation_action key_activation_resume(struct key_activation *a, usec_t now_wall)
{
	if (a->step == ACTIVATION_NONE)
		return ACTIVATION_IDLE;
	if (a->step == ACTIVATION_STAGING)
		return pay(a, a->step, take(a, ACTIVATION_LOST, NULL, 0, now_wall));
	return is_ahead(a->again_usec, now_wall, again_rules[0].most) ? ACTIVATION_LATER : ACTIVATION_DO;
}

bool key_activation_may_poll(const struct key_activation *a)
{
	/* Files are as they shall be: a newer version may come. */
	return a->step == ACTIVATION_NONE || a->step == ACTIVATION_RELOADING || a->step == ACTIVATION_REVIVING;
}

bool key_activation_may(const struct key_activation *a, const char *version, usec_t now_wall)
{
	const struct key_rejection *x = &a->rejected;

	if (!str_equal(x->version, version))
		return true;
	return x->again_usec != INT64_MAX && !is_ahead(x->again_usec, now_wall, rollback_rules[0].most);
}

void key_activation_forgive(struct key_activation *a)
{
	a->rejected.times = a->rejected.again_usec = 0;
}

void key_activation_forget_rejected(struct key_activation *a)
{
	free(a->rejected.version);
	free(a->rejected.why);
	a->rejected = (struct key_rejection){ 0 };
}

static void candidate_done(struct key_candidate *c)
{
	jd_free(&candidate_type, c);
}

static int copy_candidate(struct key_candidate *to, const struct key_candidate *from)
{
	struct key_candidate c = { .created_usec = from->created_usec,
				   .not_before_usec = from->not_before_usec,
				   .not_after_usec = from->not_after_usec,
				   .incomplete = from->incomplete };

	if (str_set(&c.url, from->url) < 0 || str_set(&c.shape, from->shape) < 0 || str_set(&c.version, from->version) < 0 ||
	    str_set(&c.thumbprint, from->thumbprint) < 0 || str_set(&c.identity, from->identity) < 0 ||
	    str_set(&c.set, from->set) < 0) {
		candidate_done(&c);
		return -ENOMEM;
	}
	*to = c;
	return 0;
}

int key_activation_begin(struct key_activation *a, const struct key_candidate *c, const char *former)
{
	bool owed = a->step == ACTIVATION_RELOADING || a->step == ACTIVATION_REVIVING;
	struct key_candidate copy;
	_cleanup_free_ char *set = NULL;

	if (copy_candidate(&copy, c) < 0)
		return -ENOMEM;
	if (str_set(&set, former) < 0) {
		candidate_done(&copy);
		return -ENOMEM;
	}
	key_activation_clear(a);
	if (!owed)
		jd_free(&units_type, &a->active);
	a->candidate = copy;
	a->former = TAKE_PTR(set);
	a->owed = owed;
	enter(a, ACTIVATION_STAGING);
	return 0;
}

void key_activation_abandon(struct key_activation *a)
{
	key_activation_clear(a);
	jd_free(&units_type, &a->active);
	a->owed = false;
	enter(a, ACTIVATION_NONE);
}

void key_activation_first(struct key_activation *a)
{
	key_activation_clear(a);
	key_activation_forget_rejected(a);
	jd_free(&units_type, &a->active);
	a->first = true;
	a->owed = false;
	enter(a, ACTIVATION_RELOADING);
}

void key_activation_clear(struct key_activation *a)
{
	candidate_done(&a->candidate);
	free(TAKE_PTR(a->former));
	a->first = a->checked = false;
}

/* ---- what is told ---- */

static void put_when(int64_t again, usec_t now_wall, struct buf *out)
{
	char wait[TIMEFMT_MAX];

	if (again == INT64_MAX)
		(void)buf_puts(out, "; it is not tried again: put another version into the vault, or change the settings");
	else if ((usec_t)again > now_wall)
		(void)buf_printf(out, "; next try in %s", timefmt_span(usec_sub((usec_t)again, now_wall), wait));
	else
		(void)buf_puts(out, "; it is tried again at the next look into the vault");
}

static void raise_level(struct component *c, enum status_level level)
{
	if (c->level == STATUS_SUCCESS || level == STATUS_ERROR)
		c->level = level;
}

static void put_step(const struct key_activation *a, usec_t now_wall, struct buf *out, struct component *c)
{
	const char *version = str_empty(a->candidate.version) ? "" : a->candidate.version;

	switch (a->step) {
	case ACTIVATION_STAGING:
	case ACTIVATION_CHECKING:
	case ACTIVATION_TESTING:
		(void)buf_printf(out, "; version %s is being checked", version);
		break;
	case ACTIVATION_SWITCHING:
	case ACTIVATION_VERIFYING:
		(void)buf_printf(out, "; version %s is being put to use", version);
		break;
	case ACTIVATION_RELOADING:
		if (!a->first) {
			(void)buf_printf(out, "; version %s is being put to use", version);
		} else if (a->why) {
			(void)buf_printf(out, "; not everybody has been told of it: %s", a->why);
			put_when(a->again_usec, now_wall, out);
			raise_level(c, STATUS_WARNING);
		}
		break;
	case ACTIVATION_UNDOING:
	case ACTIVATION_REVERTING:
	case ACTIVATION_REVIVING:
		(void)buf_puts(out, a->why ? "; going back to it has failed: " : "; it is being put back");
		if (a->why) {
			(void)buf_puts(out, a->why);
			put_when(a->again_usec, now_wall, out);
			raise_level(c, STATUS_ERROR);
		}
		break;
	default:
		break;
	}
}

static void put_rejected(const struct key_rejection *x, bool at_work, usec_t now_wall, struct buf *out, struct component *c)
{
	bool rolled_back = x->step == ACTIVATION_RELOADING || x->step == ACTIVATION_VERIFYING;

	(void)buf_printf(out, rolled_back ? "; version %s was rolled back: %s" : "; version %s is not put to use: %s", x->version,
			 x->why ? x->why : "");
	if (!at_work)
		put_when(x->again_usec, now_wall, out);
	raise_level(c, rolled_back ? STATUS_ERROR : STATUS_WARNING);
}

void key_activation_describe(const struct key_activation *a, usec_t now_wall, struct buf *out, struct component *c)
{
	if (a->rejected.version)
		put_rejected(&a->rejected, a->step != ACTIVATION_NONE, now_wall, out, c);
	if (a->step != ACTIVATION_NONE)
		put_step(a, now_wall, out, c);
}
