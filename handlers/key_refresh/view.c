/* What operators see and order: the view of every certificate and secret, and "ask the vault now". */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/codec/timefmt.h"
#include "agent/core/key_view.h"
#include "agent/io/loop.h"
#include "agent/io/paths.h"
#include "handlers/key_refresh/activate.h"
#include "handlers/key_refresh/item.h"
#include "handlers/key_refresh/layout.h"

static void view_done(struct key_view *v)
{
	jd_free(&key_view_type, v);
}

/* ---- what is wanted ---- */

static int fill_files(const struct handler *h, const struct key_item *p, struct view_key *v)
{
	_cleanup_(key_layout_done) struct key_layout l = { 0 };
	struct view_key_file *files;
	int r = key_layout_find(h->host->paths, &p->wish, NULL, &l);

	if (r < 0)
		return r;
	files = calloc(l.n ? l.n : 1, sizeof(*files));
	if (!files)
		return -ENOMEM;
	v->files.items = files;
	for (size_t i = 0; i < l.n; i++) {
		struct view_key_file *f = &files[v->files.n++];

		f->is_private = !l.files[i].everybody;
		f->has_key = key_part_has_key(l.files[i].part);
		f->path = path_join(l.directory, l.files[i].name);
		if (!f->path || str_set(&f->part, key_part_name(l.files[i].part)) < 0)
			return -ENOMEM;
	}
	return str_set(&v->where, p->wish.secret && l.n ? files[0].path : l.directory);
}

static int fill_acls(const struct certificate_settings *c, struct view_key *v)
{
	const struct acl_settings *from = c->acls.items;
	struct acl_settings *to;

	if (c->acls.n == 0)
		return 0;
	to = calloc(c->acls.n, sizeof(*to));
	if (!to)
		return -ENOMEM;
	v->acls = (struct jd_list){ to, c->acls.n };
	for (size_t i = 0; i < c->acls.n; i++)
		if (str_set(&to[i].user, from[i].user) < 0 || str_set(&to[i].group, from[i].group) < 0)
			return -ENOMEM;
	return 0;
}

static int fill_wanted(const struct handler *h, const struct key_item *p, struct view_key *v)
{
	const struct certificate_settings *c = p->wish.certificate;
	const struct key_secret_settings *s = p->wish.secret;

	v->days_left = KEY_VIEW_UNKNOWN;
	if (str_set(&v->name, key_name(&p->wish)) < 0 || str_set(&v->url, key_url(&p->wish)) < 0 ||
	    str_set(&v->kind, c ? "certificate" : "secret") < 0 || str_set(&v->owner, c ? c->owner : s->owner) < 0 ||
	    str_set(&v->group, c ? c->group : s->group) < 0 || str_set(&v->mode, c ? c->mode : s->mode) < 0 ||
	    (c && fill_acls(c, v) < 0))
		return -ENOMEM;
	return fill_files(h, p, v);
}

/* ---- what is true ---- */

static int fill_now(const struct handler *h, const struct item *i, struct view_key *v)
{
	const struct key_item *p = &i->plan;
	usec_t now = loop_now_boot(h->host->loop), wall = loop_now_wall(h->host->loop);
	usec_t held = key_pace_until(&h->pace, key_url(&p->wish), now), next = usec_max(p->next_boot, held), later = activate_due(i);
	char time[TIMEFMT_MAX];

	if (key_view_set_record(v, &p->record, key_installed(p), now >= p->deadline_boot,
				key_expiry_days(h->settings, &p->record, wall), wall) < 0)
		return -ENOMEM;
	v->asked = i->asked;
	v->answered = i->answered;
	/* What has been begun comes first. */
	if (later != USEC_INFINITY)
		next = later;
	if (i->phase != PHASE_IDLE || next <= now)
		return str_set(&v->next_try, NULL);
	return str_set(&v->next_try, timefmt_utc(usec_add(wall, next - now), time));
}

static int fill(const struct handler *h, bool whole, struct key_view *ret)
{
	_cleanup_(view_done) struct key_view v = { .configured = h->settings, .live = whole };
	struct view_key *all = calloc(h->n ? h->n : 1, sizeof(*all));
	int r = all ? 0 : -ENOMEM;

	v.items.items = all;
	for (size_t k = 0; r >= 0 && k < h->n; k++) {
		v.items.n++;
		r = fill_wanted(h, &h->items[k]->plan, &all[k]);
		if (r >= 0 && whole)
			r = fill_now(h, h->items[k], &all[k]);
	}
	if (r < 0)
		return r;
	*ret = v;
	v = (struct key_view){ 0 };
	return 0;
}

int key_refresh_look(struct handler *h, const char *query, struct buf *json, struct error *err)
{
	_cleanup_(view_done) struct key_view v = { 0 };
	int r;

	if (!str_empty(query))
		return error_set(err, ERROR_USER, -EINVAL, "there is nothing to choose from: ask without a query");
	r = fill(h, true, &v);
	if (r >= 0) {
		key_view_sort(&v);
		r = jd_encode(&key_view_type, &v, false, json);
	}
	return r < 0 ? error_errno(err, r, "cannot tell what is known of certificates") : 0;
}

/* For the commands, which check the files also while no daemon runs. */
void key_refresh_note_wanted(const struct handler *h)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_API_REPLY), there = BUF_INIT(LIMIT_API_REPLY);
	_cleanup_(view_done) struct key_view v = { 0 };
	struct error e = ERROR_INIT, ignored = ERROR_INIT;
	int r = 0;

	if (!h->settings) {
		r = fs_unlink(h->wanted_path, &e);
	} else if (fill(h, false, &v) < 0 || jd_encode(&key_view_type, &v, false, &text) < 0) {
		r = error_oom(&e);
	} else if (fs_read_nofollow(h->wanted_path, LIMIT_API_REPLY, &there, &ignored) < 0 ||
		   !str_equal(buf_str(&there), buf_str(&text))) {
		r = fs_write(h->wanted_path, text.data, text.len, 0600, FS_REPLACE, &e);
	}
	if (r < 0)
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "what evenkeel certs tells without the service is out of date: %s",
			e.msg);
}

/* ---- orders ---- */

/* A vault that wants no requests for a while is not asked by an operator's order either. False: so it is. What waits to be
 * tried again is tried now, and so is a version that was rejected. */
static bool ask(struct handler *h, struct item *i, usec_t now)
{
	key_activation_forgive(item_way(i));
	i->later_boot = 0;
	if (key_pace_until(&h->pace, key_url(&i->plan.wish), now) > now)
		return false;
	i->asked++;
	i->ordered = true;
	if (i->phase == PHASE_IDLE)
		i->plan.next_boot = now;
	return true;
}

void key_refresh_poll(struct handler *h)
{
	usec_t now = loop_now_boot(h->host->loop);

	if (!h->settings || h->retiring)
		return;
	for (size_t k = 0; k < h->n; k++)
		(void)ask(h, h->items[k], now);
	loop_timer_after(h->timer, 0);
}

static int order_refresh(struct handler *h, const char *name, struct buf *reply, struct error *err)
{
	usec_t now = loop_now_boot(h->host->loop);
	size_t asked = 0, held = 0;

	if (!h->settings || h->n == 0)
		return error_set(err, ERROR_USER, -ENOENT,
				 "the settings ask for no certificate; keyRefresh.certificates is empty");
	for (size_t k = 0; k < h->n; k++) {
		if (!str_empty(name) && !str_equal(h->items[k]->name, name))
			continue;
		if (ask(h, h->items[k], now))
			asked++;
		else
			held++;
	}
	if (asked + held == 0)
		return error_set(err, ERROR_USER, -ENOENT,
				 "no certificate or secret has the name \"%.200s\"; evenkeel certs lists them", name);
	loop_timer_after(h->timer, 0);
	(void)buf_printf(reply, "asking for %zu %s", asked, asked == 1 ? "item" : "items");
	if (held)
		(void)buf_printf(
			reply, "; %zu not: the vault has had too many requests and wants to be left alone for a while",
			held);
	return buf_ok(reply) < 0 ? error_oom(err) : 0;
}

int key_refresh_operate(struct handler *h, const char *order, const char *argument, struct buf *reply,
			struct error *err)
{
	if (h->retiring)
		return error_set(err, ERROR_USER, -ESHUTDOWN, "evenkeel is being uninstalled");
	if (str_equal(order, "refresh"))
		return order_refresh(h, argument, reply, err);
	return error_set(err, ERROR_USER, -EOPNOTSUPP, "no such order: %s", order);
}
