/* Values that leave no copy behind. */
#include "agent/base/secret.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int secret_set(struct secret *s, const void *data, size_t len)
{
	char *p = malloc(len + 1);

	if (!p)
		return -ENOMEM;
	if (len)
		memcpy(p, data, len);
	p[len] = '\0';
	secret_done(s);
	s->data = p;
	s->len = len;
	return 0;
}

void secret_done(struct secret *s)
{
	if (s->data) {
		explicit_bzero(s->data, s->len);
		free(s->data);
	}
	*s = (struct secret){ 0 };
}

void erase_and_free(char *p)
{
	if (!p)
		return;
	explicit_bzero(p, strlen(p));
	free(p);
}
