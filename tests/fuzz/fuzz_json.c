/*
 * Any bytes through the decoder: no crash, no leak, and what is accepted survives being written and read
 * again. The first byte chooses strictness, so both the settings' and the platform's way are reached.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/str.h"
#include "agent/codec/json.h"
#include "agent/codec/json_report.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct item {
	int kind; /* variant */
	char *name;
	struct jd_secretable uri;
	struct jd_list ports;
	int64_t n;
};

struct entry {
	char *key;
	struct item value;
};

struct root {
	bool flag;
	int64_t number, loose;
	char *text, *raw;
	int choice, open_choice;
	struct jd_secretable secret;
	struct item first;
	struct root *again;
	struct jd_list items, map, numbers;
};

/* Not assert(): release builds leave that out, together with the calls inside. */
static void must(bool truth)
{
	if (!truth)
		abort();
}

static int check_text(const char *s, struct error *err)
{
	return strchr(s, '!') ? error_set(err, ERROR_USER, -1, "expected a text without \"!\", got \"%s\"", s) : 0;
}

static const char *const words[] = {"alpha", "beta", NULL};
static const struct jd_type boolean = {.kind = JD_BOOLEAN};
static const struct jd_type number = {.kind = JD_INTEGER, .min = -5, .max = 3600};
static const struct jd_type loose = {.kind = JD_INTEGER, .lenient = true};
static const struct jd_type text = {.kind = JD_TEXT, .max = 200, .check = check_text};
static const struct jd_type raw = {.kind = JD_RAW};
static const struct jd_type choice = {.kind = JD_CHOICE, .names = words};
static const struct jd_type open_choice = {.kind = JD_CHOICE, .names = words, .lenient = true};
static const struct jd_type secret = {.kind = JD_SECRETABLE, .check = check_text};
static const struct jd_type secret_only = {.kind = JD_SECRETABLE, .must_be_secret = true};
static const struct jd_type numbers = {.kind = JD_LIST, .element = &number, .max = 8};

static const struct jd_field common[] = {
	{"name", &text, offsetof(struct item, name), .default_text = "x"},
	{0},
};
static const struct jd_field alpha[] = {
	{"uri", &secret, offsetof(struct item, uri), JD_REQUIRED},
	{0},
};
static const struct jd_field beta[] = {
	{"ports", &numbers, offsetof(struct item, ports), .default_text = "[1, 2]"},
	{"n", &number, offsetof(struct item, n), .default_integer = -6},
	{0},
};
static const struct jd_field *const variants[] = {alpha, beta};
static const struct jd_type item = {.kind = JD_VARIANT,
				    .tag = "kind",
				    .names = words,
				    .variants = variants,
				    .fields = common,
				    .size = sizeof(struct item),
				    .tag_offset = offsetof(struct item, kind)};
static const struct jd_type items = {.kind = JD_LIST, .element = &item, .max = 16, .unique = "name"};
static const struct jd_type map = {.kind = JD_MAP,
				   .element = &item,
				   .max = 16,
				   .size = sizeof(struct entry),
				   .value_offset = offsetof(struct entry, value),
				   .check = check_text};

static const struct jd_type again;
static const struct jd_field root_fields[] = {
	{"flag", &boolean, offsetof(struct root, flag), .default_integer = true},
	{"number", &number, offsetof(struct root, number), JD_OMIT_EMPTY},
	{"loose", &loose, offsetof(struct root, loose), .default_integer = 7},
	{"text", &text, offsetof(struct root, text), JD_OMIT_EMPTY},
	{"raw", &raw, offsetof(struct root, raw)},
	{"choice", &choice, offsetof(struct root, choice), .default_integer = -1},
	{"openChoice", &open_choice, offsetof(struct root, open_choice), .default_integer = -1},
	{"secret", &secret_only, offsetof(struct root, secret)},
	{"first", &item, offsetof(struct root, first)},
	{"again", &again, offsetof(struct root, again)},
	{"items", &items, offsetof(struct root, items), JD_OMIT_EMPTY},
	{"map", &map, offsetof(struct root, map)},
	{"numbers", &numbers, offsetof(struct root, numbers)},
	{"ignored", &items, .flags = JD_IGNORED},
	{0},
};
static const struct jd_type again = {.kind = JD_POINTER,
				     .fields = root_fields,
				     .size = sizeof(struct root),
				     .short_member = "text",
				     .short_list = "numbers",
				     .lenient = true};
static const struct jd_type root = {.kind = JD_OBJECT, .fields = root_fields, .size = sizeof(struct root)};

static void decode_encode(const char *json, size_t len, enum jd_unknown unknown)
{
	struct jd_report report = {0};
	struct jd_options o = {.subject = "fuzz", .unknown = unknown, .report = &report};
	struct buf first = BUF_INIT(16UL << 20), second = BUF_INIT(16UL << 20);
	struct error err = ERROR_INIT;
	struct root v = {0};

	if (jd_decode(json, len, &root, &o, &v, &err) < 0) {
		static const struct root zero;

		must(err.code < 0 && *err.msg && utf8_valid(err.msg, strlen(err.msg)) && report.n_errors > 0);
		must(memcmp(&v, &zero, sizeof(v)) == 0);
		goto out;
	}
	must(report.n_errors_found == 0);
	must(jd_encode(&root, &v, false, &first) == 0);
	jd_free(&root, &v);
	o.max_bytes = 16UL << 20;
	o.max_values = 1U << 20;
	must(jd_decode(first.data, first.len, &root, &o, &v, &err) == 0);
	must(jd_encode(&root, &v, true, &second) == 0);
	jd_free(&root, &v);
	buf_reset(&second);
	must(jd_decode(first.data, first.len, &root, &o, &v, &err) == 0);
	must(jd_encode(&root, &v, false, &second) == 0);
	jd_free(&root, &v);
	must(str_equal(first.data, second.data));
out:
	jd_report_done(&report);
	buf_done(&first);
	buf_done(&second);
}

static void canonical(const char *json, size_t len)
{
	struct buf first = BUF_INIT(16UL << 20), second = BUF_INIT(16UL << 20);
	struct error err = ERROR_INIT;

	if (jd_canonical(json, len, 1UL << 20, &first, &err) == 0) {
		must(utf8_valid(first.data, first.len));
		must(jd_canonical(first.data, first.len, 1UL << 20, &second, &err) == 0);
		must(str_equal(first.data, second.data));
	}
	buf_done(&first);
	buf_done(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf quoted = BUF_INIT(16UL << 20);
	const char *json;

	if (size == 0)
		return 0;
	json = (const char *)data + 1;
	decode_encode(json, size - 1, data[0] & 1 ? JD_UNKNOWN_ERROR : JD_UNKNOWN_IGNORE);
	canonical(json, size - 1);
	jd_quote(&quoted, json, size - 1);
	must(utf8_valid(quoted.data, quoted.len));
	buf_done(&quoted);
	return 0;
}
