/* The words of the platform's services, made fit for our messages. */
#include "agent/azure/service.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/json.h"
#include "agent/core/retry.h"
#include "agent/io/http.h"

struct inner_error {
	char *code;
};

struct service_error {
	char *code;
	char *message;
	struct inner_error inner;
};

struct answer {
	struct service_error error;
	char *description;
	struct jd_list newest; /* of char * */
};

static const struct jd_type text = { .kind = JD_TEXT, .max = (int64_t)LIMIT_ERROR_BODY };
static const struct jd_type texts = { .kind = JD_LIST, .element = &text };

/* clang-format off */
static const struct jd_field inner_fields[] = {
	{ "code", &text, offsetof(struct inner_error, code) },
	{ NULL },
};
static const struct jd_type inner = { .kind = JD_OBJECT, .fields = inner_fields };

/* A bare text is the metadata service's message, and the identity service's code. */
static const struct jd_field error_fields[] = {
	{ "code",       &text,  offsetof(struct service_error, code) },
	{ "message",    &text,  offsetof(struct service_error, message) },
	{ "innererror", &inner, offsetof(struct service_error, inner) },
	{ NULL },
};
static const struct jd_type error_type = { .kind = JD_OBJECT, .fields = error_fields, .short_member = "message" };

static const struct jd_field answer_fields[] = {
	{ "error",             &error_type, offsetof(struct answer, error) },
	{ "error_description", &text,       offsetof(struct answer, description) },
	{ "newest-versions",   &texts,      offsetof(struct answer, newest) },
	{ NULL },
};
/* clang-format on */
static const struct jd_type answer_type = { .kind = JD_OBJECT, .fields = answer_fields, .size = sizeof(struct answer) };

void service_line(const char *from, size_t len, char *out, size_t size)
{
	size_t n = 0;
	bool blank = false;

	while (len > 0) {
		enum utf8_kind kind;
		size_t step = utf8_next(from, len, &kind);
		bool space = kind == UTF8_CONTROL || (step == 1 && *from == ' ');
		const char *put = kind == UTF8_BROKEN ? UTF8_REPLACEMENT : from;
		size_t put_len = kind == UTF8_BROKEN ? strlen(UTF8_REPLACEMENT) : step;

		if (!space && n + put_len + (blank ? 1 : 0) >= size)
			break;
		if (space) {
			blank = n > 0;
		} else {
			if (blank)
				out[n++] = ' ';
			memcpy(out + n, put, put_len);
			n += put_len;
			blank = false;
		}
		from += step;
		len -= step;
	}
	out[n] = '\0';
}

static void set_line(char *out, size_t size, const char *from)
{
	service_line(from ? from : "", from ? strlen(from) : 0, out, size);
}

/* The service lists the newest first, but does not say that it does. */
static void set_newest(const struct jd_list *list, char out[static 16])
{
	char *const *versions = list->items;

	for (size_t i = 0; i < list->n; i++)
		if (strlen(versions[i]) < 16 && strcmp(versions[i], out) > 0)
			set_line(out, 16, versions[i]);
}

void service_words_parse(const char *body, size_t len, struct service_words *ret)
{
	struct answer a = { .description = NULL };

	*ret = (struct service_words){ .code = "" };
	if (jd_decode_document(body, len, "answer", LIMIT_ERROR_BODY, &answer_type, &a, NULL) < 0) {
		service_line(body, len, ret->message, sizeof(ret->message));
		return;
	}
	set_newest(&a.newest, ret->newest_version);
	set_line(ret->inner, sizeof(ret->inner), a.error.inner.code);
	if (a.description) {
		set_line(ret->code, sizeof(ret->code), a.error.message);
		set_line(ret->message, sizeof(ret->message), a.description);
	} else {
		set_line(ret->code, sizeof(ret->code), a.error.code);
		set_line(ret->message, sizeof(ret->message), a.error.message);
	}
	jd_free(&answer_type, &a);
}

int service_status_errno(int status)
{
	switch (status) {
	case 400:
		return -EINVAL;
	case 401:
	case 403:
		return -EACCES;
	case 404:
		return -ENOENT;
	case 408:
		return -ETIMEDOUT;
	case 410:
	case 429:
		return -EAGAIN;
	default:
		return status >= 500 ? -EREMOTEIO : -EPROTO;
	}
}

enum error_class service_status_class(int status)
{
	return status == 408 || status == 410 || status == 429 || status >= 500 ? ERROR_TRANSIENT : ERROR_PLATFORM;
}

usec_t service_retry_after(const struct http_response *resp)
{
	return retry_after_parse(http_response_header(resp, "Retry-After"), time_wall());
}
