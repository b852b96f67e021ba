/* Settings parts: what the content that counts brings is what the daemon has, where a stronger door has consented. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/core/settings_common.h"
#include "handlers/user_data/userdata_private.h"

struct documents {
	struct handler_document items[LIMIT_USER_DATA_SETTINGS];
	char *names[LIMIT_USER_DATA_SETTINGS], *texts[LIMIT_USER_DATA_SETTINGS];
	size_t n;
};

static void documents_done(struct documents *d)
{
	for (size_t i = 0; i < d->n; i++) {
		free(d->names[i]);
		free(d->texts[i]);
	}
}

static bool is_consented(const struct userdata_settings *s)
{
	const int *parts = s ? s->parts.items : NULL;

	for (size_t i = 0; s && s->action == USERDATA_APPLY && i < s->parts.n; i++)
		if (parts[i] == USERDATA_SETTINGS)
			return true;
	return false;
}

static int collect_one(const struct userdata_item *item, size_t number, struct documents *to, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_USER_DATA_EXPANDED);

	if (to->n >= LIMIT_USER_DATA_SETTINGS)
		return error_set(err, ERROR_USER, -E2BIG, "more than %d settings parts", LIMIT_USER_DATA_SETTINGS);
	if (userdata_item_content(item, &text, err) < 0)
		return -EINVAL;
	if (memchr(buf_str(&text), '\0', text.len))
		return error_set(err, ERROR_USER, -EBADMSG, "user data, part %zu: it is no JSON", number);
	to->names[to->n] = str_format("user data, part %zu", number);
	to->texts[to->n] = strdup(buf_str(&text));
	to->items[to->n] = (struct handler_document){ to->names[to->n], to->texts[to->n] };
	to->n++;
	return to->names[to->n - 1] && to->texts[to->n - 1] ? 0 : error_oom(err);
}

static int collect(const struct userdata_parts *p, struct documents *to, struct error *err)
{
	const struct userdata_item *items = p->items.items;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < p->items.n; i++)
		if (items[i].kind == USERDATA_KIND_SETTINGS && !items[i].problem)
			r = collect_one(&items[i], i + 1, to, err);
	return r;
}

/* The content whose settings count: the one that is being applied, or what is there unless it waits or is ignored. NULL: no
 * answer yet, what is in force stays. "": none. */
static const char *counting(const struct handler *h)
{
	const struct userdata_revision *r = userdata_memory_running(&h->memory);

	if (!is_consented(h->section))
		return "";
	if (!r)
		r = userdata_memory_find(&h->memory, userdata_content(h));
	if (!r || r->state == USERDATA_PENDING || r->state == USERDATA_IGNORED || r->state == USERDATA_CANCELLED)
		return NULL;
	return r->sha256;
}

/* The parts of that content: those that are being applied, or made anew from the copy. */
static int find_parts(struct handler *h, const char *sha256, struct userdata_parts *made,
		      const struct userdata_parts **ret, struct error *err)
{
	_cleanup_buf_ struct buf data = BUF_SECRET_INIT(LIMIT_USER_DATA_DECODED);
	int r;

	*ret = made;
	if (h->planned && str_equal(h->parts.sha256, sha256)) {
		*ret = &h->parts;
		return 0;
	}
	if (!*sha256)
		return 0;
	r = str_equal(h->plan.record.sha256, sha256) ? userdata_copy(h, &data, err) : -ENOENT;
	/* Lost, or still that of former content: it comes with a later look. */
	return r == -ENOMEM ? r : r < 0 ? -ENOENT : userdata_parts_make(buf_str(&data), data.len, sha256, made, err);
}

void userdata_offer(struct handler *h)
{
	const char *sha256 = counting(h);
	_cleanup_(documents_done) struct documents d = { 0 };
	struct userdata_parts made = { 0 };
	const struct userdata_parts *parts;
	struct error e = ERROR_INIT;
	int r;

	if (!sha256 || !h->host->offer_settings || str_equal(h->offered, sha256))
		return;
	r = find_parts(h, sha256, &made, &parts, &e);
	if (r >= 0)
		r = collect(parts, &d, &e);
	userdata_parts_done(&made);
	/* Without the copy nothing is known: what is in force stays. */
	if (r == -ENOENT || str_set(&h->offered, sha256) < 0)
		return;
	if (r >= 0)
		r = h->host->offer_settings(h->host, sha256, d.items, d.n, &e);
	if (r < 0)
		log_for(LOG_LEVEL_ERROR, (.handler = HANDLER),
			"settings in user data are refused, those before stay in force: %s", e.msg);
	if (str_set(&h->settings_problem, r < 0 ? e.msg : NULL) < 0)
		h->settings_problem = NULL;
	h->host->changed(h->host);
}

int userdata_offer_into_runs(const struct handler *h, struct userdata_revision *r)
{
	struct userdata_run *runs = r->runs.items;

	for (size_t i = 0; i < r->runs.n; i++) {
		if (runs[i].kind != USERDATA_KIND_SETTINGS || runs[i].state != USERDATA_RUN_PENDING)
			continue;
		runs[i].state = h->settings_problem ? USERDATA_RUN_FAILED : USERDATA_RUN_DONE;
		if (str_set(&runs[i].message, h->settings_problem ? h->settings_problem : "in force") < 0)
			return -ENOMEM;
	}
	return 0;
}
