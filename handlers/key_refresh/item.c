/*
 * One certificate or plain secret: its record below state/, the wish it goes by, and how each of its tries ends. item_fetch.c
 * asks the vault, item_files.c writes and removes the files.
 */
#include "handlers/key_refresh/item.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "agent/azure/keyvault.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/log.h"
#include "agent/base/random.h"
#include "agent/base/str.h"
#include "agent/core/settings_common.h"
#include "agent/io/loop.h"
#include "agent/io/paths.h"
#include "handlers/key_refresh/activate.h"

struct key_clock item_clock(const struct handler *h)
{
	return (struct key_clock){ .interval = usec_from_seconds((uint64_t)h->settings->polling_interval_seconds),
				   .random = random_jitter(),
				   .now_boot = loop_now_boot(h->host->loop),
				   .now_wall = loop_now_wall(h->host->loop) };
}

/* ---- the record ---- */

int item_save(struct item *i, unsigned flags, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT(RECORD_MAX);
	struct error e = ERROR_INIT;
	int r = key_record_encode(&i->plan.record, &text);

	if (r < 0)
		(void)error_oom(&e);
	else
		r = fs_write(i->record_path, text.data, text.len, 0600, flags, &e);
	if (r < 0)
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "%s: what is installed cannot be noted: %s", i->name,
			e.msg);
	if (r < 0 && err)
		*err = e;
	return r;
}

static int load_item(struct item *i)
{
	_cleanup_buf_ struct buf text = BUF_INIT(RECORD_MAX);
	struct error e = ERROR_INIT;
	int r = fs_read_nofollow(i->record_path, RECORD_MAX, &text, &e);

	if (r == -ENOENT)
		return 0;
	if (r >= 0)
		r = key_record_decode(buf_str(&text), text.len, &i->plan.record, &e);
	if (r == -ENOMEM)
		return r;
	if (r < 0)
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "%s: %s; it is installed again", i->name, e.msg);
	return 0;
}

/* ---- the item ---- */

void item_free(struct item *i)
{
	if (!i)
		return;
	vault_call_free(i->call);
	if (i->job)
		sweep_again(i->h->sweep);
	activate_forget(i);
	item_forget_job(i);
	key_item_done(&i->plan);
	free(i->identity);
	free(i->job_set);
	free(i->name);
	free(i->record_path);
	free(i);
}

int item_new(struct handler *h, const char *name, struct item **ret)
{
	_cleanup_(item_freep) struct item *i = calloc(1, sizeof(*i));
	_cleanup_free_ char *file = str_format("%s.json", name);
	int r;

	if (!i || !file)
		return -ENOMEM;
	i->h = h;
	i->asked = 1;
	i->plan.record.warned_days = -1;
	i->name = strdup(name);
	i->record_path = path_join(h->directory, file);
	if (!i->name || !i->record_path)
		return -ENOMEM;
	r = load_item(i);
	if (r >= 0)
		r = activate_new(i);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(i);
	return 0;
}

/* Only a password needs one. It is kept with the first install under it. */
static int ensure_salt(struct key_record *r, const struct key_wish *wish)
{
	unsigned char bytes[16];
	char hex[SHA256_HEX_MAX];

	if (r->salt || !wish->password)
		return 0;
	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		return -EIO;
	if (sha256_hex(bytes, sizeof(bytes), hex) < 0)
		return -ENOMEM;
	return str_set(&r->salt, hex);
}

int item_set_wish(struct item *i, const struct key_wish *wish, bool new_goal)
{
	char shape[SHA256_HEX_MAX], origin[SHA256_HEX_MAX];
	bool moved, reshaped;
	int r = ensure_salt(&i->plan.record, wish);

	if (r >= 0)
		r = key_shape(wish, i->plan.record.salt, shape);
	if (r >= 0)
		r = key_origin(i->h->settings, wish, origin);
	if (r < 0)
		return r;
	moved = !str_equal(origin, i->plan.origin);
	reshaped = !str_equal(shape, i->plan.shape);
	i->plan.wish = *wish;
	memcpy(i->plan.shape, shape, sizeof(shape));
	memcpy(i->plan.origin, origin, sizeof(origin));
	if (moved && i->phase == PHASE_FETCHING) {
		vault_call_free(TAKE_PTR(i->call));
		i->phase = PHASE_IDLE;
	}
	activate_reshape(i, shape);
	if (new_goal && i->plan.record.activation.rejected.version) {
		key_activation_forgive(&i->plan.record.activation);
		i->plan.next_boot = 0;
	}
	if (moved || reshaped || (new_goal && i->plan.problem.msg[0])) {
		i->plan.vault = i->plan.work = (struct retry_state){ .attempts = 0 };
		i->plan.next_boot = 0;
	}
	return 0;
}

/* ---- how a try ends ---- */

void item_tell(const struct item *i, const char *words)
{
	_cleanup_free_ char *text = str_format("%s: version %s %s", i->name, i->plan.record.version, words);

	if (text)
		i->h->host->tell(i->h->host, NOTICE_CERTIFICATE, i->name, NULL, text);
}

/* Once for each of expiryWarningInDays and each version, also over restarts. */
static void tell_expiry(struct item *i)
{
	struct key_record *r = &i->plan.record;
	char words[128];
	usec_t now = loop_now_wall(i->h->host->loop);
	int64_t days = key_expiry_days(i->h->settings, r, now);

	/* Told by a clock that was ahead: that time is still to come. */
	if (r->warned_days >= 0 && usec_sub((usec_t)r->not_after_usec, now) > usec_from_seconds((uint64_t)r->warned_days * 86400))
		r->warned_days = -1;
	if (days < 0 || (r->warned_days >= 0 && r->warned_days <= days))
		return;
	r->warned_days = days;
	(void)item_save(i, FS_NO_SYNC, NULL);
	(void)snprintf(words, sizeof(words), "expires within %lld %s; renew it in the vault", (long long)days,
		       days == 1 ? "day" : "days");
	if (days == 0)
		(void)snprintf(words, sizeof(words), "has expired; renew it in the vault");
	log_for(LOG_LEVEL_WARNING, (.handler = HANDLER, .milestone = true), "%s: version %s %s", i->name, r->version,
		words);
	item_tell(i, words);
}

/* What is next is seen from the loop: this may be inside of the search for it. */
void item_ended(struct item *i)
{
	i->phase = PHASE_IDLE;
	/* What cannot ask before it has come to its end has nothing else to answer. */
	i->answered = key_activation_may_poll(item_way(i)) ? i->asking : i->asked;
	/* Asked for while it was at work: what was found then may be from before. */
	if (i->asked > i->answered)
		i->plan.next_boot = 0;
	else
		i->ordered = false;
	tell_expiry(i);
	i->h->host->changed(i->h->host);
	loop_timer_after(i->h->timer, 0);
	if (i->h->retiring)
		item_retire(i);
}

void item_failed(struct item *i, bool first)
{
	if (first)
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "%s: %s; it is tried again", i->name,
			i->plan.problem.msg);
	(void)item_save(i, FS_NO_SYNC, NULL);
	item_ended(i);
}

void item_install_failed(struct item *i, const struct error *why)
{
	const struct key_clock clock = item_clock(i->h);
	bool first = !i->plan.problem.msg[0];

	key_install_failed(&i->plan, why, &clock);
	measure_install(i, "failed");
	item_failed(i, first);
}
