/* The file of settings that user data has brought. */
#include "agent/app/user_settings.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/codec/json_record.h"
#include "agent/io/paths.h"

#define FORMAT 1 /* agent/codec/json_record.h */
#define FILE_NAME "user-data.settings"
#define FILE_MAX  (4 * LIMIT_USER_DATA_EXPANDED)

static const struct jd_type word = { .kind = JD_TEXT, .max = 256 };
static const struct jd_type text = { .kind = JD_TEXT, .max = LIMIT_USER_DATA_EXPANDED };
/* clang-format off */
static const struct jd_field document_fields[] = {
	{ "name", &word, offsetof(struct user_document, name), JD_REQUIRED },
	{ "text", &text, offsetof(struct user_document, text), JD_REQUIRED },
	{ NULL },
};
static const struct jd_type document_type = { .kind = JD_OBJECT, .fields = document_fields, .size = sizeof(struct user_document) };
static const struct jd_type documents_type = { .kind = JD_LIST, .element = &document_type, .max = LIMIT_USER_DATA_SETTINGS };
static const struct jd_field fields[] = {
	{ "revision",  &word,           offsetof(struct user_settings, revision),  0 },
	{ "documents", &documents_type, offsetof(struct user_settings, documents), 0 },
	{ NULL },
};
/* clang-format on */
const struct jd_type user_settings_type = { .kind = JD_OBJECT, .fields = fields, .size = sizeof(struct user_settings) };

void user_settings_done(struct user_settings *s)
{
	jd_free(&user_settings_type, s);
}

int user_settings_read(const struct paths *p, struct user_settings *ret, struct error *err)
{
	_cleanup_free_ char *path = path_join(p->records, FILE_NAME);
	_cleanup_buf_ struct buf b = BUF_INIT(FILE_MAX);
	struct error e = ERROR_INIT;
	int r = path ? fs_read_nofollow(path, FILE_MAX, &b, &e) : error_oom(&e);

	if (r == -ENOENT)
		return 0;
	if (r >= 0)
		r = jd_decode_record(buf_str(&b), b.len, path, FILE_MAX, &user_settings_type, FORMAT, ret, &e);
	if (r < 0 && err)
		*err = e;
	return r;
}

int user_settings_write(const struct paths *p, const struct user_settings *s, struct error *err)
{
	_cleanup_free_ char *path = path_join(p->records, FILE_NAME);
	_cleanup_buf_ struct buf b = BUF_INIT(FILE_MAX);
	int r;

	if (!path)
		return error_oom(err);
	if (!s->documents.n)
		return fs_unlink(path, err);
	/* Over one of a later version, too: it is made from the user data, whoever wrote it. */
	r = jd_encode_record(&user_settings_type, FORMAT, s, &b);
	return r < 0 ? error_errno(err, r, "cannot write down %s", path) : fs_write(path, b.data, b.len, 0600, FS_REPLACE, err);
}

int user_settings_hash(const struct user_settings *s, char ret[static SHA256_HEX_MAX], struct error *err)
{
	_cleanup_(sha256_freep) struct sha256 *hash = NULL;
	const struct user_document *documents = s->documents.items;
	int r = sha256_new(&hash);

	/* Their ends count, too. */
	for (size_t i = 0; r >= 0 && i < s->documents.n; i++)
		r = sha256_update(hash, documents[i].text, strlen(documents[i].text) + 1);
	if (r >= 0)
		r = sha256_final_hex(hash, ret);
	return r < 0 ? error_errno(err, r, "cannot make the checksum of the settings in user data") : 0;
}
