/* Which number the agent asks for, and what it wrote into that number's settings file. */
#include "agent/azure/goal_state.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/cms.h"
#include "agent/codec/json.h"

#define SUFFIX     ".settings"
#define THUMBPRINT 40
#define LIMIT_PEM  (64UL * 1024) /* certificate or key */
#define BLANKS     " \t\r\n"

/* ---- the number ---- */

struct newest {
	char sequence[SEQUENCE_MAX];
	uint64_t number;
	struct timespec modified;
};

static bool is_newer(const struct newest *a, const struct newest *b)
{
	if (!b->sequence[0])
		return true;
	if (a->modified.tv_sec != b->modified.tv_sec)
		return a->modified.tv_sec > b->modified.tv_sec;
	if (a->modified.tv_nsec != b->modified.tv_nsec)
		return a->modified.tv_nsec > b->modified.tv_nsec;
	return a->number > b->number;
}

/* "12.settings"; "name.12.settings" belongs to a multi-config extension, which we are not. */
static bool parse_name(const char *name, struct newest *ret)
{
	size_t n = strspn(name, "0123456789");

	if (n == 0 || n >= SEQUENCE_MAX || !str_equal(name + n, SUFFIX))
		return false;
	memcpy(ret->sequence, name, n);
	ret->sequence[n] = '\0';
	return str_to_u64(ret->sequence, UINT64_MAX, &ret->number);
}

static int find_newest(const char *folder, struct newest *newest, struct error *err)
{
	_cleanup_(closedirp) DIR *d = opendir(folder);

	if (!d)
		return error_errno(err, -errno, "cannot look for settings in %s", folder);
	for (;;) {
		struct newest one = { .number = 0 };
		struct dirent *e;
		struct stat st;

		errno = 0;
		e = readdir(d);
		if (!e)
			return errno ? error_errno(err, -errno, "cannot look for settings in %s", folder) : 0;
		if (!parse_name(e->d_name, &one))
			continue;
		/* One that vanishes meanwhile is not the newest. */
		if (fstatat(dirfd(d), e->d_name, &st, 0) < 0 || !S_ISREG(st.st_mode))
			continue;
		one.modified = st.st_mtim;
		if (is_newer(&one, newest))
			*newest = one;
	}
}

int goal_state_sequence(const char *from_environment, const char *config_folder, char ret[static SEQUENCE_MAX],
			struct error *err)
{
	struct newest newest = { .number = 0 };
	uint64_t number;
	int r;

	if (!str_empty(from_environment)) {
		if (!str_to_u64(from_environment, UINT64_MAX, &number) || strlen(from_environment) >= SEQUENCE_MAX)
			return error_set(err, ERROR_PLATFORM, -EINVAL,
					 "ConfigSequenceNumber: expected a number, got \"%.60s\"", from_environment);
		memcpy(ret, from_environment, strlen(from_environment) + 1);
		return 0;
	}
	r = find_newest(config_folder, &newest, err);
	if (r < 0)
		return r;
	if (!newest.sequence[0])
		return error_set(err, ERROR_PLATFORM, -ENOENT,
				 "no sequence number: ConfigSequenceNumber is not set and %s has no N" SUFFIX
				 "; the Azure agent provides both when it enables an extension",
				 config_folder);
	memcpy(ret, newest.sequence, SEQUENCE_MAX);
	return 0;
}

/* ---- the settings file ---- */

struct handler_settings {
	char *public_raw; /* JSON */
	char *blob;
	char *thumbprint;
};

struct element {
	struct handler_settings settings;
};

struct document {
	struct jd_list elements;
};

static const struct jd_type raw = { .kind = JD_RAW };
static const struct jd_type blob = { .kind = JD_TEXT, .max = (int64_t)LIMIT_CMS, .sensitive = true };
static const struct jd_type thumbprint = { .kind = JD_TEXT, .max = 256 };
static const struct jd_type public_text = { .kind = JD_TEXT, .max = (int64_t)LIMIT_SETTINGS, .sensitive = true };

/* clang-format off */
static const struct jd_field settings_fields[] = {
	{ "publicSettings",                  &raw,        offsetof(struct handler_settings, public_raw) },
	{ "protectedSettings",               &blob,       offsetof(struct handler_settings, blob) },
	{ "protectedSettingsCertThumbprint", &thumbprint, offsetof(struct handler_settings, thumbprint) },
	{ NULL },
};
static const struct jd_type handler_settings = { .kind = JD_OBJECT, .fields = settings_fields };

static const struct jd_field element_fields[] = {
	{ "handlerSettings", &handler_settings, offsetof(struct element, settings) },
	{ NULL },
};
static const struct jd_type element = { .kind = JD_OBJECT, .fields = element_fields, .size = sizeof(struct element) };
static const struct jd_type elements = { .kind = JD_LIST, .element = &element };

static const struct jd_field document_fields[] = {
	{ "runtimeSettings", &elements, offsetof(struct document, elements) },
	{ NULL },
};
/* clang-format on */
static const struct jd_type document = { .kind = JD_OBJECT,
					 .fields = document_fields,
					 .size = sizeof(struct document) };

static void document_done(struct document *doc)
{
	jd_free(&document, doc);
}

/* Only whether it is an object; what is in it is the settings' own matter. */
static const struct jd_field no_fields[] = { { NULL } };
static const struct jd_type any_object = { .kind = JD_OBJECT, .fields = no_fields };

static bool is_blank(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!text[i] || !strchr(BLANKS, text[i]))
			return false;
	return true;
}

/* What the agent's template of Fast Track has as a JSON text inside the JSON is the object itself elsewhere. */
static int unwrap_public(const char *file, char **raw_text, char **ret, struct error *err)
{
	_cleanup_free_ char *subject = str_format("%s: publicSettings", file);
	_cleanup_free_ char *inner = NULL;
	struct error why = ERROR_INIT;
	char nothing = 0;
	int r;

	if (!subject)
		return error_oom(err);
	if (!*raw_text)
		return 0;
	if ((*raw_text)[0] == '{') {
		*ret = TAKE_PTR(*raw_text);
		return 0;
	}
	if ((*raw_text)[0] != '"')
		return error_set(err, ERROR_PLATFORM, -EINVAL, "%s: expected an object, or an object as a text",
				 subject);
	r = jd_decode_document(*raw_text, strlen(*raw_text), subject, LIMIT_SETTINGS_FILE, &public_text, &inner, err);
	if (r < 0 || is_blank(inner, strlen(inner)) || str_equal(inner, "null"))
		return r;
	r = jd_decode_document(inner, strlen(inner), subject, LIMIT_SETTINGS, &any_object, &nothing, &why);
	if (r < 0)
		return error_set(err, why.cls, r, "%.400s (as a text inside the file)", why.msg);
	*ret = TAKE_PTR(inner);
	return 0;
}

static int take_protected(const char *file, struct handler_settings *s, struct goal_settings *g, struct error *err)
{
	if (!s->blob || is_blank(s->blob, strlen(s->blob)))
		return 0;
	if (str_empty(s->thumbprint))
		return error_set(err, ERROR_PLATFORM, -EINVAL,
				 "%s: protectedSettings without protectedSettingsCertThumbprint, so nobody knows the "
				 "key that opens"
				 " them; apply the extension's settings again",
				 file);
	if (strlen(s->thumbprint) != THUMBPRINT || strspn(s->thumbprint, "0123456789abcdefABCDEF") != THUMBPRINT)
		return error_set(err, ERROR_PLATFORM, -EINVAL,
				 "%s: protectedSettingsCertThumbprint: expected 40 hexadecimal digits, got \"%.60s\"",
				 file, s->thumbprint);
	for (char *p = s->thumbprint; *p; p++)
		*p = (char)toupper((unsigned char)*p);
	g->protected_blob = TAKE_PTR(s->blob);
	g->thumbprint = TAKE_PTR(s->thumbprint);
	return 0;
}

int goal_settings_parse(const char *json, size_t len, const char *file, struct goal_settings *ret, struct error *err)
{
	_cleanup_(goal_settings_done) struct goal_settings g = { .absent = false };
	_cleanup_(document_done) struct document doc = { .elements = { NULL } };
	struct handler_settings *s;
	int r;

	if (is_blank(json, len)) {
		*ret = (struct goal_settings){ .absent = true };
		return 0;
	}
	r = jd_decode_document(json, len, file, LIMIT_SETTINGS_FILE, &document, &doc, err);
	if (r < 0)
		return r;
	if (doc.elements.n != 1)
		return error_set(err, ERROR_PLATFORM, -EINVAL, "%s: wrong runtimeSettings count. expected:1, got:%zu",
				 file, doc.elements.n);
	s = &((struct element *)doc.elements.items)->settings;
	r = unwrap_public(file, &s->public_raw, &g.public_text, err);
	if (r == 0)
		r = take_protected(file, s, &g, err);
	if (r < 0)
		return r;
	*ret = g;
	g = (struct goal_settings){ .absent = false };
	return 0;
}

void goal_settings_done(struct goal_settings *g)
{
	erase_and_free(g->public_text); /* some people put secrets there */
	free(g->protected_blob);
	free(g->thumbprint);
	*g = (struct goal_settings){ .absent = false };
}

/* ---- the protected part ---- */

/* The agent fetches the pair with each goal state, and there it may come after us, or be written at this moment. */
static int read_pem(const char *path, const char *what, struct buf *out, struct error *err)
{
	struct error why = ERROR_INIT;
	int r = fs_read(path, LIMIT_PEM, out, &why);

	if (r == -ENOENT)
		return error_set(err, ERROR_TRANSIENT, r,
				 "%s, the %s of the protected settings, is not there; the Azure agent puts it there "
				 "when it fetches"
				 " the VM's certificates: restart the agent if it does not come",
				 path, what);
	if (r < 0) {
		if (err)
			*err = why;
		return r;
	}
	if (out->len == 0 || memchr(out->data, '\0', out->len))
		return error_set(err, ERROR_TRANSIENT, -EBADMSG,
				 "%s, the %s of the protected settings, is %s; the Azure agent writes it: restart the "
				 "agent if it"
				 " stays so",
				 path, what, out->len ? "damaged" : "empty");
	return 0;
}

int goal_settings_decrypt(const struct goal_settings *g, const char *lib_dir, struct secret *ret, struct error *err)
{
	_cleanup_buf_ struct buf key = BUF_SECRET_INIT(LIMIT_PEM), plain = BUF_SECRET_INIT(LIMIT_SETTINGS);
	_cleanup_buf_ struct buf certificate = BUF_INIT(LIMIT_PEM);
	_cleanup_free_ char *key_file = NULL, *certificate_file = NULL;
	struct error why = ERROR_INIT;
	int r;

	if (!g->protected_blob || !g->thumbprint)
		return error_set(err, ERROR_SYSTEM, -EINVAL, "there are no protected settings to decrypt");
	certificate_file = str_format("%s/%s.crt", lib_dir, g->thumbprint);
	key_file = str_format("%s/%s.prv", lib_dir, g->thumbprint);
	if (!key_file || !certificate_file)
		return error_oom(err);
	r = read_pem(certificate_file, "certificate", &certificate, err);
	if (r == 0)
		r = read_pem(key_file, "private key", &key, err);
	if (r < 0)
		return r;
	r = cms_decrypt(g->protected_blob, strlen(g->protected_blob), buf_str(&certificate), buf_str(&key), &plain,
			&why);
	/* A pair that is not readable is half written, or of another time: the next one may do. */
	if (r == -EINVAL || r == -EKEYREJECTED)
		return error_set(err, ERROR_TRANSIENT, r, "%.300s (with %s and .prv)", why.msg, certificate_file);
	if (r < 0)
		return error_set(err, why.cls, r, "%.400s; apply the extension's settings again", why.msg);
	return secret_set(ret, buf_str(&plain), plain.len) < 0 ? error_oom(err) : 0;
}
