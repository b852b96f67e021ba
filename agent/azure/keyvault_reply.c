/* What a vault answers: a secret, and a page of the list of its versions. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/azure/keyvault_internal.h"
#include "agent/azure/service.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/json.h"
#include "agent/codec/uri.h"

struct attributes {
	bool enabled;
	int64_t not_before, expires, created;
};

struct vault_bundle {
	char *value, *id, *content_type, *previous;
	struct attributes attributes;
};

static const struct jd_type value = { .kind = JD_TEXT, .max = (int64_t)LIMIT_VAULT_SECRET, .sensitive = true };
static const struct jd_type text = { .kind = JD_TEXT, .max = 1024 };
static const struct jd_type boolean = { .kind = JD_BOOLEAN };
static const struct jd_type seconds = { .kind = JD_INTEGER, .min = 0, .max = 253402300799 }; /* the year 9999 */

/* clang-format off */
static const struct jd_field attributes_fields[] = {
	{ "enabled", &boolean, offsetof(struct attributes, enabled), .default_integer = true },
	{ "nbf",     &seconds, offsetof(struct attributes, not_before) },
	{ "exp",     &seconds, offsetof(struct attributes, expires) },
	{ "created", &seconds, offsetof(struct attributes, created) },
	{ NULL },
};
static const struct jd_type attributes = { .kind = JD_OBJECT, .fields = attributes_fields };

static const struct jd_field bundle_fields[] = {
	{ "value",       &value,      offsetof(struct vault_bundle, value), JD_REQUIRED },
	{ "id",          &text,       offsetof(struct vault_bundle, id),    JD_REQUIRED },
	{ "contentType", &text,       offsetof(struct vault_bundle, content_type) },
	{ "attributes",  &attributes, offsetof(struct vault_bundle, attributes) },
	{ "previousVersion", &text,   offsetof(struct vault_bundle, previous) },
	{ NULL },
};
/* clang-format on */
static const struct jd_type bundle_type = { .kind = JD_OBJECT,
					    .fields = bundle_fields,
					    .size = sizeof(struct vault_bundle) };

void vault_bundle_free(struct vault_bundle *v)
{
	if (!v)
		return;
	jd_free(&bundle_type, v);
	free(v);
}

/* https://VAULT/secrets/NAME/VERSION */
static const char *version_of(const char *id)
{
	const char *slash = strrchr(id, '/');

	return slash && vault_is_name(slash + 1, strlen(slash + 1), 1, 63) ? slash + 1 : NULL;
}

bool vault_bundle_is(const struct vault_bundle *v, const char *host, const char *name, const char *version)
{
	_cleanup_free_ char *path = str_format("/secrets/%s/%s", name, version_of(v->id));
	_cleanup_(uri_done) struct uri u = { .host = NULL };

	if (!path || uri_parse(v->id, &u, NULL) < 0 || !str_equal_nocase(u.host, host) ||
	    !str_equal_nocase(u.path, path))
		return false;
	return !*version || str_equal_nocase(version_of(v->id), version);
}

int vault_reply_parse(const char *json, size_t len, struct vault_bundle **ret, struct vault_secret *ret_secret,
		      struct error *err)
{
	_cleanup_(vault_bundle_freep) struct vault_bundle *v = calloc(1, sizeof(*v));
	const char *version;
	int r;

	if (!v)
		return error_oom(err);
	r = jd_decode_document(json, len, "secret", LIMIT_VAULT_SECRET, &bundle_type, v, err);
	if (r < 0)
		return r;
	version = version_of(v->id);
	if (!version)
		return error_set(err, ERROR_PLATFORM, -EPROTO,
				 "secret: id: expected one that ends in a version, got \"%.100s\"", v->id);
	*ret_secret = (struct vault_secret){
		.value = v->value,
		.len = strlen(v->value),
		.enabled = v->attributes.enabled,
		.not_before = usec_from_seconds((uint64_t)v->attributes.not_before),
		.expires = usec_from_seconds((uint64_t)v->attributes.expires),
		.created = usec_from_seconds((uint64_t)v->attributes.created),
	};
	memcpy(ret_secret->version, version, strlen(version) + 1);
	/* Told since 2025, of secrets made since then; what is no version is as good as none. */
	if (v->previous && vault_is_name(v->previous, strlen(v->previous), 1, 63))
		memcpy(ret_secret->previous, v->previous, strlen(v->previous) + 1);
	if (v->content_type)
		service_line(v->content_type, strlen(v->content_type), ret_secret->content_type,
			     sizeof(ret_secret->content_type));
	*ret = TAKE_PTR(v);
	return 0;
}

/* ---- the list of versions ---- */

struct listed {
	char *id;
	struct attributes attributes;
};

struct page {
	struct jd_list items;
	char *next;
};

static const struct jd_type link_text = { .kind = JD_TEXT, .max = (int64_t)LIMIT_URI };

/* clang-format off */
static const struct jd_field listed_fields[] = {
	{ "id",         &text,       offsetof(struct listed, id), JD_REQUIRED },
	{ "attributes", &attributes, offsetof(struct listed, attributes) },
	{ NULL },
};
static const struct jd_type listed_type = { .kind = JD_OBJECT, .fields = listed_fields, .size = sizeof(struct listed) };
static const struct jd_type items_type = { .kind = JD_LIST, .element = &listed_type, .max = 1000 };

static const struct jd_field page_fields[] = {
	{ "value",    &items_type, offsetof(struct page, items) },
	{ "nextLink", &link_text,  offsetof(struct page, next) },
	{ NULL },
};
/* clang-format on */
static const struct jd_type page_type = { .kind = JD_OBJECT, .fields = page_fields, .size = sizeof(struct page) };

static void page_done(struct page *p)
{
	jd_free(&page_type, p);
}

/* The token follows this link, so it leads nowhere else. */
static int check_next(const char *link, const char *host, const char *name, char **ret, struct error *err)
{
	_cleanup_free_ char *path = str_format("/secrets/%s/versions", name);
	_cleanup_(uri_done) struct uri u = { .host = NULL };

	if (!path)
		return error_oom(err);
	if (uri_parse(link, &u, NULL) < 0 || !u.https || (u.port && u.port != 443) || !str_equal_nocase(u.host, host) ||
	    !str_equal_nocase(u.path, path) || str_empty(u.query))
		return error_set(err, ERROR_PLATFORM, -EPROTO,
				 "versions: nextLink leads elsewhere, which is not followed: %.100s",
				 u.host ? u.host : "");
	*ret = TAKE_PTR(u.query);
	return 0;
}

int vault_page_parse(const char *json, size_t len, const char *host, const char *name, struct vault_newest *newest,
		     char **ret_next, struct error *err)
{
	_cleanup_(page_done) struct page p = { .next = NULL };
	const struct listed *l;
	int r;

	r = jd_decode_document(json, len, "versions", LIMIT_VAULT_PAGE, &page_type, &p, err);
	if (r < 0)
		return r;
	*ret_next = NULL;
	if (!str_empty(p.next))
		r = check_next(p.next, host, name, ret_next, err);
	if (r < 0)
		return r;
	l = p.items.items;
	for (size_t i = 0; i < p.items.n; i++) {
		usec_t created = usec_from_seconds((uint64_t)l[i].attributes.created);
		const char *version = version_of(l[i].id);

		if (!version || !l[i].attributes.enabled || (newest->version[0] && created <= newest->created))
			continue;
		newest->created = created;
		memcpy(newest->version, version, strlen(version) + 1);
	}
	return 0;
}
