/* Vaults that want no requests for a while: a short list by host. */
#include "agent/core/key_pace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define TOO_MANY 429

void key_pace_done(struct key_pace *p)
{
	for (size_t i = 0; i < p->n; i++)
		free(p->vaults[i].host);
	*p = (struct key_pace){ .n = 0 };
}

/* "https://HOST/…": the settings have checked it. */
static const char *host_in(const char *url, size_t *ret_len)
{
	const char *host = strstr(url, "://");

	host = host ? host + 3 : url;
	*ret_len = strcspn(host, ":/");
	return host;
}

static size_t find(const struct key_pace *p, const char *url)
{
	size_t len, i = 0;
	const char *host = host_in(url, &len);

	while (i < p->n && (strlen(p->vaults[i].host) != len || strncasecmp(p->vaults[i].host, host, len) != 0))
		i++;
	return i;
}

static void drop(struct key_pace *p, size_t i)
{
	free(p->vaults[i].host);
	p->vaults[i] = p->vaults[--p->n];
}

static int add(struct key_pace *p, const char *url, usec_t now)
{
	size_t len;
	const char *host = host_in(url, &len);
	char *copy = strndup(host, len);

	if (!copy)
		return -ENOMEM;
	for (size_t i = p->n; p->n == KEY_VAULTS_MAX && i-- > 0;)
		if (p->vaults[i].until <= now)
			drop(p, i);
	if (p->n == KEY_VAULTS_MAX)
		free(copy);
	else
		p->vaults[p->n++] = (struct key_pace_vault){ .host = copy };
	return 0;
}

int key_pace_refused(struct key_pace *p, const char *url, usec_t retry_after, uint32_t random, usec_t now)
{
	struct key_pace_vault *v;
	usec_t wait;
	int r;

	if (find(p, url) == p->n) {
		r = add(p, url, now);
		if (r < 0)
			return r;
	}
	if (find(p, url) == p->n)
		return 0;
	v = &p->vaults[find(p, url)];
	if (v->until > now)
		v->until = usec_max(v->until, usec_add(now, usec_min(retry_after, retry_vault.retry_after_most)));
	else if (retry_failed(&retry_vault, &v->retry, TOO_MANY, retry_after, random, now, &wait) == RETRY_AFTER)
		v->until = usec_add(now, wait);
	return 0;
}

void key_pace_answered(struct key_pace *p, const char *url, usec_t now)
{
	size_t i = find(p, url);

	if (i < p->n && p->vaults[i].until <= now)
		drop(p, i);
}

usec_t key_pace_until(const struct key_pace *p, const char *url, usec_t now)
{
	size_t i = find(p, url);

	return i < p->n && p->vaults[i].until > now ? p->vaults[i].until : 0;
}

bool key_pace_careful(const struct key_pace *p, const char *url)
{
	return find(p, url) < p->n;
}

bool key_pace_same(const char *url, const char *other)
{
	size_t a_len, b_len;
	const char *a = host_in(url, &a_len), *b = host_in(other, &b_len);

	return a_len == b_len && strncasecmp(a, b, a_len) == 0;
}
