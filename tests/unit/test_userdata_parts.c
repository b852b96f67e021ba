/* User data taken apart: the bounds, the transfer encodings one by one, includes; types are held against cloud-init itself in
 * tests/agent/test_user_data_types.py. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/core/userdata_archive.h"
#include "agent/core/userdata_mime.h"
#include "agent/core/userdata_parts.h"

static struct userdata_item *item(const struct userdata_parts *p, size_t i)
{
	assert_true(i < p->items.n);
	return (struct userdata_item *)p->items.items + i;
}

static void make(const char *text, struct userdata_parts *ret)
{
	struct error e = ERROR_INIT;

	if (userdata_parts_make(text, strlen(text), "x", ret, &e) < 0)
		fail_msg("%s", e.msg);
}

static void content_is(const struct userdata_item *i, const char *text)
{
	_cleanup_buf_ struct buf b = BUF_INIT(4096);

	assert_int_equal(userdata_item_content(i, &b, NULL), 0);
	assert_string_equal(buf_str(&b), text);
}

static void test_transfer_encodings(void **state)
{
	static const struct {
		const char *encoding, *text, *decoded;
	} cases[] = {
		{ NULL, "as it is", "as it is" },
		{ "8bit", "as it is", "as it is" },
		{ "base64", "IyEv\r\nYmlu L3No", "#!/bin/sh" },
		{ "BASE64", "IyEvYmluL3N", "#!/bin/s" }, /* without its padding */
		{ "base64", "IyE=IyEv", "#!" },		 /* ends at it */
		{ "base64", "I", "I" },			 /* no base64 at all */
		{ "base64", "", "" },
		{ "quoted-printable", "a=3Db=\n c=\r\nd=zz==e=", "a=b cd=zz=e" },
		{ "x-uuencode", "begin 644 f\n#0V%T\n`\nend\n", "Cat" },
		{ "uue", "begin 644 f\n#0V%T", "Cat" }, /* without an end */
		{ "uuencode", "no beginning", "no beginning" },
		{ "uuencode", "begin 644 f\n\n", "begin 644 f\n\n" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_buf_ struct buf out = BUF_INIT(4096);

		assert_int_equal(userdata_mime_decode(cases[i].encoding, cases[i].text, strlen(cases[i].text), &out),
				 0);
		assert_string_equal(buf_str(&out), cases[i].decoded);
	}
}

static void test_parts_of_a_message(void **state)
{
	_cleanup_(userdata_parts_done) struct userdata_parts p = { 0 };

	(void)state;
	make("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"b\"\n\n"
	     "--b\nContent-Type: text/x-shellscript\nContent-Disposition: attachment; filename=\"a\tb.sh\"\n\n\n #!/bin/sh\n"
	     "--b\nContent-Type: text/cloud-boothook\n\n#cloud-boothook\n#!/bin/sh\nhook\n"
	     "--b\nContent-Type: " USERDATA_SETTINGS_TYPE "\n\n{}\n--b\nContent-Type: text/html\n\n<p>\n--b--\n",
	     &p);
	assert_int_equal(p.items.n, 4);
	assert_string_equal(item(&p, 0)->name, "a b.sh");
	content_is(item(&p, 0), "#!/bin/sh");
	assert_int_equal(item(&p, 1)->kind, USERDATA_KIND_BOOTHOOK);
	content_is(item(&p, 1), "#!/bin/sh\nhook");
	assert_string_equal(item(&p, 2)->name, "part-003");
	assert_int_equal(item(&p, 2)->kind, USERDATA_KIND_SETTINGS);
	content_is(item(&p, 2), "{}");
	assert_int_equal(item(&p, 3)->kind, USERDATA_KIND_OTHER);
	assert_null(item(&p, 3)->content);
}

static void test_a_header_that_begins_on_its_second_line(void **state)
{
	_cleanup_(userdata_parts_done) struct userdata_parts p = { 0 };

	(void)state;
	make("MIME-Version: 1.0\nContent-Transfer-Encoding:\r\n\t base64\nContent-Type:\n text/x-shellscript\n\nIyEvYmluL3NoCg==\n", &p);
	assert_int_equal(p.items.n, 1);
	assert_int_equal(item(&p, 0)->kind, USERDATA_KIND_SHELLSCRIPT);
	content_is(item(&p, 0), "#!/bin/sh\n");
}

static void test_limits(void **state)
{
	_cleanup_buf_ struct buf text = BUF_INIT(1024UL * 1024);
	struct userdata_parts p = { 0 };
	struct error e = ERROR_INIT;

	(void)state;
	(void)buf_puts(&text, "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n");
	for (int i = 0; i <= LIMIT_USER_DATA_PARTS; i++)
		(void)buf_puts(&text, "--b\n\nx\n");
	assert_int_equal(userdata_parts_make(text.data, text.len, "x", &p, &e), -E2BIG);
	assert_null(p.items.items);
	buf_reset(&text);
	(void)buf_puts(&text, "MIME-Version: 1.0\n");
	for (int i = 0; i <= LIMIT_USER_DATA_MIME_DEPTH + 1; i++)
		(void)buf_printf(&text, "Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n", i, i);
	assert_int_equal(userdata_parts_make(text.data, text.len, "x", &p, &e), -E2BIG);
	assert_int_equal(userdata_parts_make("MIME-Version: 1.0\n\n\xff", 20, "x", &p, &e), -EBADMSG);
}

static void test_urls(void **state)
{
	_cleanup_(userdata_parts_done) struct userdata_parts p = { 0 };
	_cleanup_strv_ char **urls = NULL;
	_cleanup_buf_ struct buf many = BUF_INIT(4096);
	struct error e = ERROR_INIT;

	(void)state;
	make("#include-once https://a/x \n# comment\n\n  http://b/ \n#include HTTPS://c/\n", &p);
	assert_int_equal(userdata_item_urls(item(&p, 0), &urls, &e), 0);
	assert_int_equal(strv_length(urls), 3);
	assert_string_equal(urls[0], "https://a/x");
	assert_string_equal(urls[1], "http://b/");
	assert_string_equal(urls[2], "HTTPS://c/");
	userdata_parts_done(&p);
	make("#include\n/etc/shadow\n", &p);
	strv_free(TAKE_PTR(urls));
	assert_int_equal(userdata_item_urls(item(&p, 0), &urls, &e), -EINVAL);
	assert_null(strstr(e.msg, "shadow"));
	userdata_parts_done(&p);
	(void)buf_puts(&many, "#include\n");
	for (int i = 0; i <= LIMIT_USER_DATA_INCLUDES; i++)
		(void)buf_printf(&many, "http://h/%d\n", i);
	make(many.data, &p);
	assert_int_equal(userdata_item_urls(item(&p, 0), &urls, &e), -E2BIG);
}

static void test_includes_take_their_place(void **state)
{
	static const struct userdata_body bodies[] = { { "#!/bin/a", 8 }, { "#include\nhttp://x/\n", 18 } };
	_cleanup_(userdata_parts_done) struct userdata_parts p = { 0 };
	struct error e = ERROR_INIT;

	(void)state;
	make("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\n#!/bin/first\n--b\n\n#include\nhttp://x/\n"
	     "--b\n\n#!/bin/last\n--b--",
	     &p);
	assert_int_equal(userdata_parts_include(&p, 1, bodies, 2, &e), 0);
	assert_int_equal(p.items.n, 4);
	content_is(item(&p, 0), "#!/bin/first");
	content_is(item(&p, 1), "#!/bin/a");
	assert_int_equal(item(&p, 2)->kind, USERDATA_KIND_INCLUDE);
	content_is(item(&p, 3), "#!/bin/last");
	for (int depth = 1; depth < LIMIT_USER_DATA_INCLUDE_DEPTH; depth++)
		assert_int_equal(userdata_parts_include(&p, 2, &bodies[1], 1, &e), 0);
	assert_int_equal(userdata_parts_include(&p, 2, &bodies[1], 1, &e), -E2BIG);
	assert_int_equal(p.items.n, 4);
	assert_int_equal(userdata_parts_include(&p, 2, NULL, 0, &e), 0);
	assert_int_equal(p.items.n, 3);
}

static void test_document_round_trip(void **state)
{
	_cleanup_(userdata_parts_done) struct userdata_parts p = { 0 }, again = { 0 };
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_USER_DATA_PLAN);
	struct error e;

	(void)state;
	make("#!/bin/sh\n", &p);
	assert_int_equal(jd_encode(&userdata_parts_type, &p, false, &text), 0);
	assert_int_equal(
		jd_decode_document(text.data, text.len, "plan", LIMIT_USER_DATA_PLAN, &userdata_parts_type, &again, &e),
		0);
	assert_string_equal(again.sha256, "x");
	content_is(item(&again, 0), "#!/bin/sh\n");
}

static void test_archive_refusals_name_the_line(void **state)
{
	static const struct {
		const char *text;
		int code;
		const char *words;
	} cases[] = {
		{ "- ok\n- &a x\n", -EOPNOTSUPP, "line 2: an anchor" },
		{ "- {a: b}\n", -EOPNOTSUPP, "line 1: a list or map in brackets" },
		{ "- content: 5\n", -EBADMSG, "line 1: the value is no text" },
		{ "- 'a\n  b'\n", -EOPNOTSUPP, "line 1: a quoted text of several lines" },
		{ "- a: x\n  a\n", -EBADMSG, "line 2: expected a member" },
		{ "- content: x\n  content: y\n", -EBADMSG, "the member is there twice" },
		{ "- \"\\q\"\n", -EBADMSG, "line 1: an escape that is none" },
		{ "key: x\n", -EBADMSG, "line 1: expected a list" },
		{ "[1, 2", -EBADMSG, "the list" },
		{ "\xff", -EBADMSG, "it is no text" },
		{ "- a\n- |\n x\ry\n", -EOPNOTSUPP, "line 3: a carriage return alone" },
		{ "- a\x01\n", -EBADMSG, "line 1: a control character" },
		{ "- a\xe2\x80\xa8\n", -EOPNOTSUPP, "line 1: a line's end of another kind" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct userdata_archive a = { 0 };
		struct error e = ERROR_INIT;

		assert_int_equal(userdata_archive_read(cases[i].text, strlen(cases[i].text), &a, &e), cases[i].code);
		if (!strstr(e.msg, cases[i].words))
			fail_msg("%s", e.msg);
		assert_null(a.entries);
	}
}

/* What fits into 64 KiB of gzip takes no time to speak of. */
static void test_blanks_cost_little(void **state)
{
	static const char *const heads[] = { "- |\n", "- content: |\n", "- x\n",
					     "MIME-Version: 1.0\nContent-Type: ", "- |\n  x\n" };
	size_t len = LIMIT_GUNZIP_DEFAULT / 2;
	char *text = malloc(len);
	struct userdata_parts p = { 0 };

	(void)state;
	assert_non_null(text);
	for (size_t i = 0; i < ARRAY_SIZE(heads); i++) {
		bool archive = heads[i][0] == '-';
		size_t n = archive ? strlen("#cloud-config-archive\n") : 0;

		memset(text, ' ', len);
		memcpy(text, "#cloud-config-archive\n", n);
		memcpy(text + n, heads[i], strlen(heads[i]));
		text[len - 1] = 'x';
		if (userdata_parts_make(text, len, "x", &p, NULL) >= 0)
			userdata_parts_done(&p);
	}
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_transfer_encodings),
		cmocka_unit_test(test_parts_of_a_message),
		cmocka_unit_test(test_a_header_that_begins_on_its_second_line),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_urls),
		cmocka_unit_test(test_includes_take_their_place),
		cmocka_unit_test(test_document_round_trip),
		cmocka_unit_test(test_archive_refusals_name_the_line),
		cmocka_unit_test(test_blanks_cost_little),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
