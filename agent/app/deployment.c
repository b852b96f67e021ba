/* The deployment record on two-slot storage. */
#include "agent/app/deployment.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/codec/json.h"
#include "agent/io/paths.h"
#include "agent/io/record.h"

#define DEPLOYMENT_FORMAT 1
#define LIMIT_DEPLOYMENT  (32UL * 1024)

struct deployment_store {
	struct record *record;
	struct deployment d;
	char *refused; /* of a later version: why it is not written */
};

static const struct jd_type text = { .kind = JD_TEXT, .max = 8192 };

/* clang-format off */
static const struct jd_field fields[] = {
	{ "sequence",         &text, offsetof(struct deployment, sequence),          JD_OMIT_EMPTY },
	{ "key",              &text, offsetof(struct deployment, key),               JD_OMIT_EMPTY },
	{ "top",              &text, offsetof(struct deployment, top),               JD_OMIT_EMPTY },
	{ "message",          &text, offsetof(struct deployment, message),           JD_OMIT_EMPTY },
	{ "acceptedSequence", &text, offsetof(struct deployment, accepted_sequence), JD_OMIT_EMPTY },
	{ "acceptedKey",      &text, offsetof(struct deployment, accepted_key),      JD_OMIT_EMPTY },
	{ NULL },
};
/* clang-format on */

static const struct jd_type deployment_type = { .kind = JD_OBJECT, .fields = fields, .size = sizeof(struct deployment) };

/* A record that cannot be read is not a reason to stand still: it is said, kept aside by record_load(), and begun anew.
 * A newer program's record stays as it is, since overwriting it would lose what that program needs back: then this one is kept in
 * memory only. */
static int load(struct deployment_store *s, const char *path, struct error *err)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT(LIMIT_DEPLOYMENT);
	int r;

	r = record_load(s->record, &bytes, NULL, err);
	if (r == -ENOENT)
		return 0;
	if (r == -EPROTO)
		return str_set(&s->refused, err->msg) < 0 ? error_oom(err) : 0;
	if (r == 0)
		r = jd_decode_document(buf_str(&bytes), bytes.len, path, LIMIT_DEPLOYMENT, &deployment_type, &s->d, err);
	if (r < 0)
		log_warning("%s; deployments are recorded anew", err->msg);
	return 0;
}

int deployment_open(const struct paths *p, struct deployment_store **ret, struct error *err)
{
	_cleanup_(deployment_closep) struct deployment_store *s = calloc(1, sizeof(*s));
	_cleanup_free_ char *path = path_join(p->records, "deployment");
	_cleanup_free_ char *fallback = path_join(p->run, "deployment");
	struct error local = ERROR_INIT;
	int r;

	if (!s || !path || !fallback)
		return error_oom(err);
	r = record_open(path, fallback, LIMIT_DEPLOYMENT, DEPLOYMENT_FORMAT, &s->record, err);
	if (r < 0)
		return r;
	r = load(s, path, &local);
	if (r < 0) {
		if (err)
			*err = local;
		return r;
	}
	*ret = TAKE_PTR(s);
	return 0;
}

void deployment_close(struct deployment_store *s)
{
	if (!s)
		return;
	record_close(s->record);
	jd_free(&deployment_type, &s->d);
	free(s->refused);
	free(s);
}

struct deployment *deployment_of(struct deployment_store *s)
{
	return &s->d;
}

const char *deployment_refused(const struct deployment_store *s)
{
	return s->refused;
}

int deployment_save(struct deployment_store *s, struct error *err)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT(LIMIT_DEPLOYMENT);
	int r;

	if (s->refused)
		return 0;
	r = jd_encode(&deployment_type, &s->d, false, &bytes);
	if (r < 0)
		return error_errno(err, r, "cannot encode the deployment record");
	return record_save(s->record, bytes.data, bytes.len, err);
}
