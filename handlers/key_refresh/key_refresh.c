/*
 * Key refresh: asks the vaults, hands what is worth installing to jobs, tells the state of each certificate and secret.
 * What is worth it, and when, is decided in agent/core/key_plan.h. At most KEY_PARALLEL items are at work at a time.
 *
 * On disk below state/: key-refresh/NAME.json (what is installed), key-refresh.goal (since when it is asked for),
 * key-refresh.wanted (what the settings want, for the commands).
 * Without them everything is fetched and installed again, with the same outcome.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/azure/keyvault.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/codec/json_record.h"
#include "agent/codec/timefmt.h"
#include "agent/io/loop.h"
#include "agent/io/paths.h"
#include "handlers/key_refresh/activate.h"
#include "handlers/key_refresh/item.h"

#define COMPONENT_MAX 320 /* "keyRefresh/" and a name */

/* ---- the goal ---- */

static void save_goal(struct handler *h)
{
	_cleanup_buf_ struct buf text = BUF_INIT(RECORD_MAX);
	struct error e = ERROR_INIT;
	int r = key_goal_encode(&h->goal, &text);

	if (r < 0)
		(void)error_oom(&e);
	else
		r = fs_write(h->goal_path, text.data, text.len, 0600, FS_REPLACE, &e);
	if (r < 0)
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "%s; after a restart the time for first installs begins anew", e.msg);
}

/* -EPROTO: of a later version. */
static int load_goal(struct handler *h, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT(RECORD_MAX);
	struct error e = ERROR_INIT;
	int r = fs_read_nofollow(h->goal_path, RECORD_MAX, &text, &e);

	if (r >= 0)
		r = key_goal_decode(buf_str(&text), text.len, &h->goal, &e);
	if (r == -EPROTO) {
		*err = e;
		return r;
	}
	if (r < 0 && r != -ENOENT)
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "%s; the time for first installs begins anew", e.msg);
	return 0;
}

/* One certificate of a later version is enough to let all of them alone: who wrote it may share things between them that we do
 * not know of. What is wrong with a record otherwise is found out where it is used. */
static int refuse_newer(struct handler *h, struct error *err)
{
	_cleanup_strv_ char **names = NULL;
	int r = fs_list(h->directory, LIMIT_KEY_RECORDS, &names, err);

	for (char **n = names; r >= 0 && *n; n++) {
		_cleanup_free_ char *path = path_join(h->directory, *n);
		_cleanup_buf_ struct buf text = BUF_INIT(RECORD_MAX);

		if (!path)
			return error_oom(err);
		if (fs_read_nofollow(path, RECORD_MAX, &text, NULL) >= 0)
			r = jd_check_format(buf_str(&text), text.len, path, RECORD_MAX, KEY_RECORD_FORMAT, err);
	}
	return r;
}

/* ---- items ---- */

/* Out of the former list. */
static struct item *take_item(struct handler *h, const char *name)
{
	for (size_t k = 0; k < h->n; k++)
		if (h->items[k] && str_equal(h->items[k]->name, name))
			return TAKE_PTR(h->items[k]);
	return NULL;
}

static void free_items(struct item **items, size_t n)
{
	for (size_t k = 0; items && k < n; k++)
		item_free(items[k]);
	free(items);
}

static struct key_wish wish_at(const struct settings *all, size_t n)
{
	const struct key_refresh_settings *k = all->key_refresh;
	const struct certificate_settings *c = k->certificates.items;
	const struct key_secret_settings *s = k->secrets.items;
	const char *password;

	if (n >= k->certificates.n)
		return (struct key_wish){ .secret = &s[n - k->certificates.n] };
	password = c[n].files.pkcs12 ? settings_value(all, SECTION_KEY_REFRESH, &c[n].pkcs12_password) : NULL;
	return (struct key_wish){ .certificate = &c[n], .password = str_empty(password) ? NULL : password };
}

static int set_items(struct handler *h, const struct settings *all, bool new_goal, usec_t deadline)
{
	const struct key_refresh_settings *k = all->key_refresh;
	size_t n = k->certificates.n + k->secrets.n;
	struct item **items = calloc(n ? n : 1, sizeof(*items));
	int r = items ? 0 : -ENOMEM;

	for (size_t x = 0; r >= 0 && x < n; x++) {
		const struct key_wish wish = wish_at(all, x);

		items[x] = take_item(h, key_name(&wish));
		if (!items[x])
			r = item_new(h, key_name(&wish), &items[x]);
		if (r >= 0)
			r = item_set_wish(items[x], &wish, new_goal);
		if (r >= 0)
			items[x]->plan.deadline_boot = deadline;
	}
	free_items(h->items, h->n);
	h->items = items;
	h->n = items ? n : 0;
	return r;
}

static void drop_items(struct handler *h)
{
	free_items(h->items, h->n);
	h->items = NULL;
	h->n = 0;
}

/* ---- the handler ---- */

static void handler_free(struct handler *h)
{
	if (!h)
		return;
	drop_items(h);
	reloads_free(h->reloads);
	hooks_free(h->hooks);
	sweep_free(h->sweep);
	loop_timer_free(h->timer);
	vaults_free(h->vaults);
	key_goal_done(&h->goal);
	key_pace_done(&h->pace);
	free(h->goal_path);
	free(h->wanted_path);
	free(h->directory);
	free(h);
}
DEFINE_CLEANUP(struct handler *, handler_free)

static int key_refresh_start(const struct handler_host *host, struct handler **ret, struct error *err)
{
	_cleanup_(handler_freep) struct handler *h = calloc(1, sizeof(*h));
	int r;

	if (!h)
		return error_oom(err);
	h->host = host;
	h->goal_path = path_join(host->paths->records, "key-refresh.goal");
	h->wanted_path = path_join(host->paths->records, "key-refresh.wanted");
	h->directory = path_join(host->paths->records, "key-refresh");
	if (!h->goal_path || !h->wanted_path || !h->directory || vaults_new(&h->vaults) < 0 ||
	    reloads_new(h, &h->reloads) < 0 || hooks_new(h, &h->hooks) < 0 || sweep_new(h, &h->sweep) < 0 ||
	    loop_timer_new(host->loop, "key-refresh", key_refresh_turn, h, &h->timer) < 0)
		return error_oom(err);
	r = fs_mkdirs(h->directory, 0700, err);
	if (r < 0)
		return r;
	r = load_goal(h, err);
	if (r >= 0)
		r = refuse_newer(h, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(h);
	return 0;
}

/* The time for the first installs counts from the goal state that asks for them, also over restarts. */
static bool begin_goal(struct handler *h, const struct handler_goal *goal)
{
	const char *key = goal->key ? goal->key : "";

	if (str_equal(h->goal.key, key))
		return false;
	h->goal.since_usec = (int64_t)loop_now_wall(h->host->loop);
	if (str_set(&h->goal.key, key) >= 0)
		save_goal(h);
	return true;
}

static int key_refresh_apply(struct handler *h, const struct handler_goal *goal, struct error *err)
{
	const struct key_refresh_settings *k = goal->settings->key_refresh;
	usec_t timeout, deadline;
	bool new_goal;
	int r;

	h->settings = k;
	if (!k) {
		drop_items(h);
		key_refresh_note_wanted(h);
		/* What jobs of those before leave behind goes all the same. */
		loop_timer_after(h->timer, 0);
		h->host->changed(h->host);
		return 0;
	}
	new_goal = begin_goal(h, goal);
	if (new_goal)
		hooks_forgive(h->hooks);
	timeout = usec_from_seconds((uint64_t)k->initial_sync_timeout_seconds);
	deadline = key_goal_deadline(&h->goal, timeout, loop_now_boot(h->host->loop), loop_now_wall(h->host->loop));
	r = set_items(h, goal->settings, new_goal, deadline);
	if (r < 0) {
		/* Items without a wish must not be looked at. */
		drop_items(h);
		h->settings = NULL;
		return error_oom(err);
	}
	key_refresh_note_wanted(h);
	loop_timer_after(h->timer, 0);
	h->host->changed(h->host);
	return 0;
}

static bool is_kept_back(const struct item *i, usec_t now)
{
	return item_is_paused(i) && i->phase == PHASE_IDLE && usec_min(activate_due(i), i->plan.next_boot) <= now;
}

static int key_refresh_report(struct handler *h, handler_report_fn add, void *userdata)
{
	usec_t now_boot = loop_now_boot(h->host->loop), now_wall = loop_now_wall(h->host->loop);
	int r = 0;

	for (size_t k = 0; r >= 0 && k < h->n; k++) {
		_cleanup_buf_ struct buf message = BUF_INIT(LIMIT_STATUS_MESSAGE);
		char name[COMPONENT_MAX], when[TIMEFMT_MAX];
		struct component c;

		key_describe(&h->items[k]->plan, h->settings, now_boot, now_wall, &message, &c);
		/* With a problem, the sentence has said it. */
		if (key_installed(&h->items[k]->plan) && !h->items[k]->plan.problem.msg[0] &&
		    h->items[k]->plan.record.next_usec)
			(void)buf_printf(&message, "; next poll at %s",
					 timefmt_utc((usec_t)h->items[k]->plan.record.next_usec, when));
		hooks_describe(h->hooks, h->items[k], &message, &c);
		if (is_kept_back(h->items[k], now_boot))
			(void)buf_puts(&message, "; paused: goes on when the pause ends");
		(void)snprintf(name, sizeof(name), HANDLER "/%s", h->items[k]->name);
		c.name = name;
		c.message = buf_str(&message);
		r = buf_ok(&message);
		if (r >= 0)
			r = add(userdata, &c);
	}
	return r;
}

static bool key_refresh_busy(const struct handler *h)
{
	usec_t now = loop_now_boot(h->host->loop);

	for (size_t k = 0; k < h->n; k++)
		if ((h->items[k]->phase != PHASE_IDLE && h->items[k]->phase != PHASE_FETCHING) ||
		    (!h->retiring && activate_due(h->items[k]) <= now))
			return true;
	return hooks_busy(h->hooks);
}

static void key_refresh_pause_changed(struct handler *h)
{
	if (h->settings)
		loop_timer_after(h->timer, 0);
}

/* Files stay unless removeOnUninstall says otherwise: applications go on with them. */
static void key_refresh_retire(struct handler *h)
{
	h->retiring = true;
	loop_timer_after(h->timer, 0);
	for (size_t k = 0; k < h->n; k++)
		item_retire(h->items[k]);
}

const struct handler_class key_refresh_class = {
	.name = HANDLER,
	.section = SECTION_KEY_REFRESH,
	.start = key_refresh_start,
	.apply = key_refresh_apply,
	.report = key_refresh_report,
	.busy = key_refresh_busy,
	.pause_changed = key_refresh_pause_changed,
	.operate = key_refresh_operate,
	.look = key_refresh_look,
	.poll = key_refresh_poll,
	.measure = key_refresh_measure,
	.retire = key_refresh_retire,
	.free = handler_free,
};
