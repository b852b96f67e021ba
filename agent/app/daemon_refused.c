/* A handler that does nothing but tell why. */
#include "agent/app/daemon_refused.h"

#include <stdlib.h>
#include <string.h>

#include "agent/core/exit_codes.h"

struct handler {
	const struct handler_class *instead_of;
	bool wanted; /* the settings have its section: then this is a duty that is not done */
	char *why;
};

static bool has_section(const struct settings *s, enum settings_section section)
{
	const void *const present[_SECTION_MAX] = {
		[SECTION_CUSTOM_SCRIPT] = s->custom_script,
		[SECTION_KEY_REFRESH] = s->key_refresh,
		[SECTION_DRAIN] = s->drain,
		[SECTION_USER_DATA] = s->user_data,
	};

	return present[section];
}

static int refused_apply(struct handler *h, const struct handler_goal *goal, _unused_ struct error *err)
{
	h->wanted = has_section(goal->settings, h->instead_of->section);
	return 0;
}

static int refused_report(struct handler *h, handler_report_fn add, void *userdata)
{
	const struct component c = { .name = h->instead_of->name,
				     .level = h->wanted ? STATUS_ERROR : STATUS_WARNING,
				     .duty = h->wanted ? DUTY_FAILED : DUTY_NONE,
				     .code = CODE_INTERNAL,
				     .message = h->why };

	return add(userdata, &c);
}

static bool refused_busy(_unused_ const struct handler *h)
{
	return false;
}

static void refused_retire(_unused_ struct handler *h)
{
}

static void refused_free(struct handler *h)
{
	if (!h)
		return;
	free(h->why);
	free(h);
}

int refused_new(const struct handler_class *instead_of, const char *why, struct handler **ret, struct error *err)
{
	struct handler *h = calloc(1, sizeof(*h));

	if (h)
		*h = (struct handler){ .instead_of = instead_of, .why = strdup(why) };
	if (!h || !h->why) {
		refused_free(h);
		return error_oom(err);
	}
	*ret = h;
	return 0;
}

const char *refused_why(const struct handler *h)
{
	return h->why;
}

const struct handler_class refused_class = {
	.name = "refused",
	.apply = refused_apply,
	.report = refused_report,
	.busy = refused_busy,
	.retire = refused_retire,
	.free = refused_free,
};
