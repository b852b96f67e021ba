/* Key refresh: what the settings wish for, and digests of it that tell when a wish has become another. */
#include <string.h>

#include "agent/codec/digest.h"
#include "agent/core/key_plan.h"
#include "agent/core/settings_common.h"

const char *key_name(const struct key_wish *w)
{
	return w->certificate ? w->certificate->name : w->secret->name;
}

const struct activate_settings *key_activate(const struct key_wish *w)
{
	return w->certificate ? &w->certificate->activate : &w->secret->activate;
}

const char *key_url(const struct key_wish *w)
{
	return w->certificate ? w->certificate->url : w->secret->url;
}

struct digest {
	struct sha256 *sha;
	int failed;
};

/* Each text with its end, so that no two lists run into one another. */
static void digest_text(struct digest *d, const char *text)
{
	if (d->failed == 0)
		d->failed = sha256_update(d->sha, text ? text : "\1", strlen(text ? text : "\1") + 1);
}

static int digest_begin(struct digest *d)
{
	*d = (struct digest){ 0 };
	return sha256_new(&d->sha);
}

static int digest_end(struct digest *d, char ret[static SHA256_HEX_MAX])
{
	if (d->failed == 0)
		d->failed = sha256_final_hex(d->sha, ret);
	sha256_free(d->sha);
	return d->failed;
}

static void digest_certificate(struct digest *d, const struct certificate_settings *c)
{
	const struct certificate_files *f = &c->files;
	const char *const texts[] = { c->directory, f->fullchain, f->certificate, f->chain, f->key,	 f->combined,
				      f->pkcs12,    c->owner,	  c->group,	  c->mode,  c->link_name };
	const struct acl_settings *acls = c->acls.items;

	digest_text(d, c->layout == STORE_OWN ? "certificate" : c->layout == STORE_KV3 ? "store 3" : "store 4");
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		digest_text(d, texts[i]);
	for (size_t i = 0; i < c->acls.n; i++) {
		digest_text(d, acls[i].user);
		digest_text(d, acls[i].group);
	}
}

int key_shape(const struct key_wish *w, const char *salt, char ret[static SHA256_HEX_MAX])
{
	struct digest d;
	int r = digest_begin(&d);

	if (r < 0)
		return r;
	if (w->certificate) {
		digest_certificate(&d, w->certificate);
		if (w->password) {
			digest_text(&d, salt);
			digest_text(&d, w->password);
		}
	} else {
		digest_text(&d, "secret");
		digest_text(&d, w->secret->path);
		digest_text(&d, w->secret->owner);
		digest_text(&d, w->secret->group);
		digest_text(&d, w->secret->mode);
	}
	return digest_end(&d, ret);
}

const struct identity *key_identity(const struct key_refresh_settings *k, const struct key_wish *w)
{
	static const struct identity system_assigned;
	const struct identity *own = w->certificate ? w->certificate->identity : w->secret->identity;

	return own ? own : k->identity ? k->identity : &system_assigned;
}

int key_origin(const struct key_refresh_settings *k, const struct key_wish *w, char ret[static SHA256_HEX_MAX])
{
	const struct identity *id = key_identity(k, w);
	char *const *suffixes = k->vault_suffixes.items;
	struct digest d;
	int r = digest_begin(&d);

	if (r < 0)
		return r;
	digest_text(&d, key_url(w));
	digest_text(&d, id->client_id);
	digest_text(&d, id->object_id);
	digest_text(&d, id->resource_id);
	digest_text(&d, k->identity_endpoint);
	for (size_t i = 0; i < k->vault_suffixes.n; i++)
		digest_text(&d, suffixes[i]);
	return digest_end(&d, ret);
}
