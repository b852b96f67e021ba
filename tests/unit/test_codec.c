/* The small codecs: base64, times, URIs, gzip, SHA-256. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/base64.h"
#include "agent/codec/digest.h"
#include "agent/codec/gzip.h"
#include "agent/codec/tar.h"
#include "agent/codec/timefmt.h"
#include "agent/codec/uri.h"

static void test_base64(void **state)
{
	static const struct {
		const char *text;
		bool blanks;
		const char *plain; /* NULL: refused, with */
		const char *message;
	} cases[] = {
		{"", false, "", NULL}, /* RFC 4648 section 10 */
		{"Zg==", false, "f", NULL},
		{"Zm8=", false, "fo", NULL},
		{"Zm9v", false, "foo", NULL},
		{"Zm9vYg==", false, "foob", NULL},
		{"Zm9vYmE=", false, "fooba", NULL},
		{"Zm9vYmFy", false, "foobar", NULL},
		{"+/+/", false, "\xfb\xff\xbf", NULL},
		{" Z m\t9\r\nv\n", true, "foo", NULL},
		{"Zg=\n=\n", true, "f", NULL},
		{"Zm9v\n", false, NULL, "base64: unexpected byte at offset 4"},
		{"Zm-v", true, NULL, "base64: unexpected byte at offset 2"},
		{"Zm9v\xc3\xa9", true, NULL, "base64: unexpected byte at offset 4"},
		{"Zm9", false, NULL, "base64: the text ends within a group, at offset 3"},
		{"Zg=", false, NULL, "base64: the text ends within a group, at offset 3"},
		{"Z===", false, NULL, "base64: unexpected padding at offset 1"},
		{"=", false, NULL, "base64: unexpected padding at offset 0"},
		{"Zm9v====", false, NULL, "base64: unexpected padding at offset 4"},
		{"Zg===", false, NULL, "base64: unexpected padding at offset 4"},
		{"Zg==Zg==", false, NULL, "base64: unexpected byte at offset 4"},
		{"Zh==", false, NULL, "base64: left-over bits at the end, offset 4"},
		{"Zm9=", false, NULL, "base64: left-over bits at the end, offset 4"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_buf_ struct buf b = BUF_INIT(100), again = BUF_INIT(100);
		struct error err = ERROR_INIT;
		int r;

		buf_puts(&b, ">");
		r = base64_decode(cases[i].text, strlen(cases[i].text), cases[i].blanks, &b, &err);
		if (!cases[i].plain) {
			assert_int_equal(r, -EINVAL);
			assert_string_equal(err.msg, cases[i].message);
			assert_string_equal(buf_str(&b), ">");
			continue;
		}
		assert_int_equal(r, 0);
		assert_string_equal(buf_str(&b) + 1, cases[i].plain);
		assert_int_equal(base64_encode(b.data + 1, b.len - 1, &again), 0);
		if (!cases[i].blanks)
			assert_string_equal(buf_str(&again), cases[i].text);
	}
}

static void test_base64_limits(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT(5);
	struct error err;

	(void)state;
	assert_int_equal(base64_decode("Zm9vYmE=", 8, false, &b, &err), 0); /* exactly */
	buf_reset(&b);
	assert_int_equal(base64_decode("Zm9vYmFy", 8, false, &b, &err), -EFBIG);
	assert_string_equal(err.msg, "base64: 6 bytes are more than allowed");
	assert_int_equal(b.len, 0);
	buf_reset(&b);
	assert_int_equal(base64_encode("foo", 3, &b), 0);
	buf_reset(&b);
	assert_int_equal(base64_encode("foob", 4, &b), -EFBIG);
}

static void test_time_parse(void **state)
{
	static const struct {
		const char *text;
		int64_t usec; /* -1: refused */
	} cases[] = {
		{"Mon, 19 Sep 2016 18:29:47 GMT", 1474309787000000},
		{"Sun, 19 Sep 2016 18:29:47 GMT", 1474309787000000}, /* the documentation's wrong weekday */
		{"Tue, 29 Feb 2000 00:00:00 GMT", 951782400000000},
		{"2026-11-20T08:00:00Z", 1795161600000000},
		{"2026-11-20T08:00:00", 1795161600000000},
		{"2026-11-20 08:00:00Z", 1795161600000000},
		{"2026-11-20T08:00:00+00:00", 1795161600000000},
		{"2026-11-20T09:30:00+01:30", 1795161600000000},
		{"2026-11-20T00:00:00-08:00", 1795161600000000},
		{"2026-11-20T08:00:00.5Z", 1795161600500000},
		{"2026-11-20T08:00:00.123456789Z", 1795161600123456},
		{"2026-11-20T08:00:00.1234567", 1795161600123456},
		{"1970-01-01T00:00:00Z", 0},
		{"9999-12-31T23:59:59Z", 253402300799000000},
		{"2016-12-31T23:59:60Z", 1483228800000000},
		{"2024-02-29T00:00:00Z", 1709164800000000},
		{"2100-03-01T00:00:00Z", 4107542400000000},
		{"1969-12-31T23:59:59Z", -1},
		{"1970-01-01T00:00:00+00:01", -1},
		{"2023-02-29T00:00:00Z", -1},
		{"2100-02-29T00:00:00Z", -1},
		{"2026-04-31T00:00:00Z", -1},
		{"2026-13-01T00:00:00Z", -1},
		{"2026-00-01T00:00:00Z", -1},
		{"2026-01-00T00:00:00Z", -1},
		{"2026-11-20T24:00:00Z", -1},
		{"2026-11-20T08:60:00Z", -1},
		{"2026-11-20T08:00:61Z", -1},
		{"2026-11-20T08:00:00.Z", -1},
		{"2026-11-20T08:00:00+0000", -1},
		{"2026-11-20T08:00:00+24:00", -1},
		{"2026-11-20T08:00:00ZZ", -1},
		{"2026-11-20T08:00Z", -1},
		{"2026-11-20", -1},
		{" 2026-11-20T08:00:00Z", -1},
		{"Mon, 19 Sep 2016 18:29:47 CET", -1},
		{"Mon, 19 Sep 2016 18:29:47 GMT ", -1},
		{"Mon, 31 Sep 2016 18:29:47 GMT", -1},
		{"Mon 19 Sep 2016 18:29:47 GMT", -1},
		{"Mon, 19 Foo 2016 18:29:47 GMT", -1},
		{"", -1},
		{"x", -1},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error err = ERROR_INIT;
		usec_t wall = 4711;
		int r = timefmt_parse(cases[i].text, &wall, &err);

		if (cases[i].usec < 0) {
			_cleanup_free_ char *message = str_format("\"%s\" is not a time", cases[i].text);

			assert_int_equal(r, -EINVAL);
			assert_string_equal(err.msg, message);
			assert_true(wall == 4711);
		} else {
			assert_int_equal(r, 0);
			assert_true(wall == (usec_t)cases[i].usec);
		}
	}
}

/* Every day from 1970 to 9999, and back. */
static void test_time_days(void **state)
{
	char text[TIMEFMT_MAX];

	(void)state;
	for (uint64_t day = 0; day < 2932897; day += 1 + day % 3) {
		usec_t wall = day * USEC_PER_DAY + 12345 * USEC_PER_SEC, back = 0;

		assert_int_equal(timefmt_parse(timefmt_utc(wall, text), &back, NULL), 0);
		assert_true(back == wall);
	}
}

static void test_time_format(void **state)
{
	static const struct {
		usec_t span;
		const char *text;
	} spans[] = {
		{0, "0 ms"},
		{999, "0 ms"},
		{350 * USEC_PER_MSEC, "350 ms"},
		{USEC_PER_SEC - 1, "999 ms"},
		{12 * USEC_PER_SEC + 5, "12 s"},
		{60 * USEC_PER_SEC, "1 min"},
		{90 * USEC_PER_SEC, "1 min 30 s"},
		{14 * USEC_PER_MINUTE, "14 min"},
		{3 * USEC_PER_HOUR + 5 * USEC_PER_MINUTE + 59 * USEC_PER_SEC, "3 h 5 min"},
		{3 * USEC_PER_HOUR + 59 * USEC_PER_SEC, "3 h"},
		{2 * USEC_PER_DAY + 4 * USEC_PER_HOUR, "2 d 4 h"},
		{USEC_INFINITY - 1, "213503982 d 8 h"},
		{USEC_INFINITY, "forever"},
	};
	char text[TIMEFMT_MAX];

	(void)state;
	assert_string_equal(timefmt_utc(1795161600123456, text), "2026-11-20T08:00:00Z");
	assert_string_equal(timefmt_utc_usec(1795161600123456, text), "2026-11-20T08:00:00.123456Z");
	assert_string_equal(timefmt_utc_usec(0, text), "1970-01-01T00:00:00.000000Z");
	assert_string_equal(timefmt_clock(1795168931000000, text), "10:02:11");
	assert_string_equal(timefmt_http(1795168931000000, text), "Fri, 20 Nov 2026 10:02:11 GMT");
	assert_string_equal(timefmt_http(1709164800000000, text), "Thu, 29 Feb 2024 00:00:00 GMT");
	assert_string_equal(timefmt_utc_usec(UINT64_MAX, text), "586524-01-19T08:01:49.551615Z");
	for (size_t i = 0; i < ARRAY_SIZE(spans); i++)
		assert_string_equal(timefmt_span(spans[i].span, text), spans[i].text);
}

static void test_uri(void **state)
{
	static const struct {
		const char *text;
		bool https, ipv6;
		const char *host;
		unsigned port;
		const char *path, *query, *redacted;
	} cases[] = {
		{"https://Shop.Blob.Core.Windows.net/a/b%20c?sig=x%2B&se=1", true, false, "shop.blob.core.windows.net",
		 0, "/a/b%20c", "sig=x%2B&se=1", "https://shop.blob.core.windows.net/a/b%20c?[redacted]"},
		{"HTTP://169.254.169.254:80", false, false, "169.254.169.254", 80, "/", NULL,
		 "http://169.254.169.254:80/"},
		{"http://h?q", false, false, "h", 0, "/", "q", "http://h/?[redacted]"},
		{"http://h/?", false, false, "h", 0, "/", "", "http://h/?[redacted]"},
		{"https://[2001:DB8::1]:8443/x", true, true, "2001:db8::1", 8443, "/x", NULL,
		 "https://[2001:db8::1]:8443/x"},
		{"https://[::1]", true, true, "::1", 0, "/", NULL, "https://[::1]/"},
		{"http://a_b.c-d/p;v=1@x:y/?a?b/c", false, false, "a_b.c-d", 0, "/p;v=1@x:y/", "a?b/c",
		 "http://a_b.c-d/p;v=1@x:y/?[redacted]"},
		{"http://1.example/", false, false, "1.example", 0, "/", NULL, "http://1.example/"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_buf_ struct buf b = BUF_INIT(1000);
		struct error err = ERROR_INIT;
		struct uri u = {0};

		assert_int_equal(uri_parse(cases[i].text, &u, &err), 0);
		assert_int_equal(u.https, cases[i].https);
		assert_int_equal(u.ipv6, cases[i].ipv6);
		assert_string_equal(u.host, cases[i].host);
		assert_int_equal(u.port, cases[i].port);
		assert_string_equal(u.path, cases[i].path);
		assert_true(str_equal(u.query, cases[i].query));
		uri_done(&u);
		uri_done(&u);
		assert_int_equal(uri_redact(cases[i].text, false, &b), 0);
		assert_string_equal(buf_str(&b), cases[i].redacted);
	}
}

static void test_uri_from_a_secret(void **state)
{
	static const char *const cases[][2] = {
		{ "https://h/hidden/a", "https://h/[redacted]" },
		{ "https://h/hidden/a?x=1", "https://h/[redacted]" },
		{ "https://h/hidden/a?design=1", "https://h/[redacted]" },
		{ "https://h:8443/a?sv=1&sig=hidden", "https://h:8443/a?[redacted]" },
		{ "hidden", "[not a URI]" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_buf_ struct buf b = BUF_INIT(200);

		assert_int_equal(uri_redact(cases[i][0], true, &b), 0);
		assert_string_equal(buf_str(&b), cases[i][1]);
	}
}

static void test_uri_refused(void **state)
{
	static const struct {
		const char *text, *why;
	} cases[] = {
		{"", "it does not begin with \"https://\" or \"http://\""},
		{"ftp://h/", "it does not begin with \"https://\" or \"http://\""},
		{"https:/h", "it does not begin with \"https://\" or \"http://\""},
		{"file:///etc/shadow", "it does not begin with \"https://\" or \"http://\""},
		{" https://h/", "it does not begin with \"https://\" or \"http://\""},
		{"https://u:secret@h/", "it has a user or password (\"@\")"},
		{"https://u@h", "it has a user or password (\"@\")"},
		{"https://h/#f", "it has a fragment (\"#\")"},
		{"https://h/a b", "the byte at offset 11 must be percent-encoded"},
		{"https://h/\xc3\xa9", "the byte at offset 10 must be percent-encoded"},
		{"https://h/a\r\nX: y", "the byte at offset 11 must be percent-encoded"},
		{"https://h/a\\b", "the byte at offset 11 must be percent-encoded"},
		{"https://h/%", "broken percent escape at offset 10"},
		{"https://h/?sig=%4", "broken percent escape at offset 15"},
		{"https://h/?sig=%zz", "broken percent escape at offset 15"},
		{"https://", "the host is not valid"},
		{"https:///x", "the host is not valid"},
		{"https://?x", "the host is not valid"},
		{"https://:80/", "the host is not valid"},
		{"https://a..b/", "the host is not valid"},
		{"https://a.b./", "the host is not valid"},
		{"https://.a/", "the host is not valid"},
		{"https://-a/", "the host is not valid"},
		{"https://a-.b/", "the host is not valid"},
		{"https://a%41/", "the host is not valid"},
		{"https://127.1/", "the host is not valid"},
		{"https://2130706433/", "the host is not valid"},
		{"https://0x7f000001/", "the host is not valid"},
		{"https://0X7F.1/", "the host is not valid"},
		{"https://127.0.0.0x1/", "the host is not valid"},
		{"https://256.0.0.1/", "the host is not valid"},
		{"https://::1/", "the host is not valid"},
		{"https://[::1/", "the host is not valid"},
		{"https://[::g]/", "what is in brackets is not an IPv6 address"},
		{"https://[]/", "what is in brackets is not an IPv6 address"},
		{"https://[1.2.3.4]/", "what is in brackets is not an IPv6 address"},
		{"https://[::1]x:1/", "the host is not valid"},
		{"https://h:/", "the port is not a number from 1 to 65535"},
		{"https://h:0/", "the port is not a number from 1 to 65535"},
		{"https://h:65536/", "the port is not a number from 1 to 65535"},
		{"https://h:00000000000080/", "the port is not a number from 1 to 65535"},
		{"https://h:8a/", "the host is not valid"},
	};
	char longer[LIMIT_URI + 2], host[300];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *message = str_format("not a usable URI: %s", cases[i].why);
		_cleanup_buf_ struct buf b = BUF_INIT(1000);
		struct error err = ERROR_INIT;
		struct uri u = {.port = 4711};

		assert_int_equal(uri_parse(cases[i].text, &u, &err), -EINVAL);
		assert_string_equal(err.msg, message);
		assert_int_equal(err.cls, ERROR_USER);
		assert_int_equal(u.port, 4711);
		assert_int_equal(uri_redact(cases[i].text, false, &b), 0);
		assert_string_equal(buf_str(&b), "[not a URI]");
	}
	memset(longer, 'x', sizeof(longer));
	memcpy(longer, "https://h/", 10);
	longer[LIMIT_URI + 1] = '\0';
	{
		struct uri u;

		assert_int_equal(uri_parse(longer, &u, NULL), -EINVAL);
		longer[LIMIT_URI] = '\0';
		assert_int_equal(uri_parse(longer, &u, NULL), 0);
		uri_done(&u);
		memset(host, 'x', sizeof(host));
		memcpy(host, "https://", 8);
		host[8 + 63] = '\0';
		assert_int_equal(uri_parse(host, &u, NULL), 0);
		uri_done(&u);
		host[8 + 63] = 'x';
		host[8 + 64] = '\0';
		assert_int_equal(uri_parse(host, &u, NULL), -EINVAL);
	}
}

static void test_uri_escapes(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT(20);
	static const char *const broken[] = {"%", "%4", "%zz", "a%0", "%00", "x%0g"};

	(void)state;
	assert_int_equal(uri_encode("aZ9-._~ /\xc3\xa9", 11, &b), 0);
	assert_string_equal(buf_str(&b), "aZ9-._~%20%2F%C3%A9");
	buf_reset(&b);
	assert_int_equal(uri_encode("//////x", 7, &b), 0);
	buf_reset(&b);
	assert_int_equal(uri_encode("///////", 7, &b), -EFBIG);
	buf_reset(&b);
	assert_int_equal(uri_decode("a%20b%C3%a9+%2500", 17, &b), 0);
	assert_string_equal(buf_str(&b), "a b\xc3\xa9+%00");
	for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
		size_t before = b.len;

		assert_int_equal(uri_decode(broken[i], strlen(broken[i]), &b), -EINVAL);
		assert_int_equal(b.len, before);
	}
	buf_reset(&b);
	assert_int_equal(uri_decode("a\0b", 3, &b), -EINVAL);
	assert_int_equal(uri_decode("%41%42", 5, &b), -EINVAL); /* the length counts */
}

/* One gzip member. */
static void deflate_into(struct buf *out, const void *data, size_t len)
{
	z_stream z = {0};

	assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	assert_int_equal(buf_reserve(out, deflateBound(&z, len)), 0);
	z.next_in = (Bytef *)(uintptr_t)data;
	z.avail_in = (uInt)len;
	z.next_out = (Bytef *)out->data + out->len;
	z.avail_out = (uInt)(out->cap - out->len);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	out->len += z.total_out;
	deflateEnd(&z);
}

static void test_gzip(void **state)
{
	_cleanup_buf_ struct buf zipped = BUF_INIT(2000000), plain = BUF_SECRET_INIT(100000), tiny = BUF_INIT(11);
	static char zeros[1000000];
	struct error err;
	size_t one;

	(void)state;
	deflate_into(&zipped, "hello, ", 7);
	one = zipped.len;
	assert_true(gzip_detect(zipped.data, zipped.len));
	assert_false(gzip_detect(zipped.data, 2) || gzip_detect("#!/bin/sh", 9) || gzip_detect(NULL, 0));
	deflate_into(&zipped, "", 0);
	deflate_into(&zipped, "world", 5);
	buf_puts(&plain, ">");
	assert_int_equal(gzip_inflate(zipped.data, zipped.len, &plain, &err), 0); /* three members */
	assert_string_equal(buf_str(&plain), ">hello, world");
	assert_int_equal(gzip_inflate(zipped.data, zipped.len, &tiny, &err), -EFBIG);
	assert_string_equal(err.msg, "gzip: inflates to more than 11 bytes");
	assert_int_equal(tiny.len, 0);

	/* Cut anywhere but between members, it is refused, and nothing is appended. */
	for (size_t n = 0; n < one; n++) {
		assert_int_equal(gzip_inflate(zipped.data, n, &plain, &err), -EBADMSG);
		assert_string_equal(buf_str(&plain), ">hello, world");
	}
	assert_int_equal(gzip_inflate(zipped.data, one, &tiny, &err), 0);
	assert_string_equal(buf_str(&tiny), "hello, ");
	assert_int_equal(buf_putc(&zipped, '\n'), 0);
	assert_int_equal(gzip_inflate(zipped.data, zipped.len, &plain, &err), -EBADMSG);
	assert_string_equal(err.msg, "gzip: truncated or corrupt");
	zipped.data[one - 6] = (char)(zipped.data[one - 6] ^ 1); /* checksum */
	assert_int_equal(gzip_inflate(zipped.data, one, &plain, &err), -EBADMSG);

	/* A bomb of a thousand to one. */
	buf_reset(&zipped);
	buf_reset(&plain);
	deflate_into(&zipped, zeros, sizeof(zeros));
	assert_true(zipped.len < 2000);
	assert_int_equal(gzip_inflate(zipped.data, zipped.len, &plain, &err), -EFBIG);
	assert_int_equal(plain.len, 0);
	assert_int_equal(buf_ok(&plain), 0);
	buf_reset(&zipped);
	deflate_into(&zipped, zeros, 100000); /* exactly as much as there is room for */
	assert_int_equal(gzip_inflate(zipped.data, zipped.len, &plain, &err), 0);
	assert_int_equal(plain.len, 100000);
}

static void test_sha256(void **state)
{
	_cleanup_(sha256_freep) struct sha256 *s = NULL;
	char hex[SHA256_HEX_MAX], thumbprint[SHA1_HEX_MAX];

	(void)state;
	assert_int_equal(sha256_hex("abc", 3, hex), 0); /* FIPS 180-2 */
	assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	assert_int_equal(sha1_hex("abc", 3, thumbprint), 0);
	assert_string_equal(thumbprint, "A9993E364706816ABA3E25717850C26C9CD0D89D");
	assert_int_equal(sha256_hex(NULL, 0, hex), 0);
	assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	assert_int_equal(sha256_new(&s), 0);
	for (int i = 0; i < 1000000; i += 100) {
		char a[100];

		memset(a, 'a', sizeof(a));
		assert_int_equal(sha256_update(s, a, sizeof(a)), 0);
	}
	assert_int_equal(sha256_final_hex(s, hex), 0);
	assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

static void test_gzip_deflate(void **state)
{
	_cleanup_buf_ struct buf long_text = BUF_INIT(200000), zipped = BUF_INIT(200000), tiny = BUF_INIT(20), plain = BUF_INIT(200000);
	struct error err = ERROR_INIT;

	(void)state;
	for (unsigned i = 0; i < 20000; i++)
		buf_printf(&long_text, "%x,", i * 2654435761U);
	assert_int_equal(buf_ok(&long_text), 0);
	assert_int_equal(gzip_deflate(long_text.data, long_text.len, &zipped, &err), 0);
	assert_true(zipped.len < long_text.len);
	assert_int_equal(gzip_inflate(zipped.data, zipped.len, &plain, &err), 0);
	assert_string_equal(buf_str(&plain), buf_str(&long_text));
	assert_int_equal(gzip_deflate(long_text.data, long_text.len, &tiny, &err), -EFBIG);

	buf_reset(&zipped);
	buf_reset(&plain);
	assert_int_equal(gzip_deflate("", 0, &zipped, &err), 0);
	assert_int_equal(gzip_inflate(zipped.data, zipped.len, &plain, &err), 0);
	assert_int_equal(plain.len, 0);
}

static void test_tar(void **state)
{
	_cleanup_buf_ struct buf tar = BUF_INIT(10240), tiny = BUF_INIT(600);
	char long_name[TAR_NAME_MAX + 2];
	unsigned sum = 0;

	(void)state;
	memset(long_name, 'n', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	assert_int_equal(tar_add(&tar, long_name, 0600, 0, "", 0), -ENAMETOOLONG);
	assert_int_equal(tar_add(&tar, long_name + 1, 0600, 1700000000, "hello", 5), 0);
	assert_int_equal(tar_add(&tar, "empty", 0644, 1, NULL, 0), 0);
	assert_int_equal(tar_end(&tar), 0);
	assert_int_equal(tar.len, 512 + 512 + 512 + 1024);
	assert_memory_equal(tar.data, long_name + 1, TAR_NAME_MAX);
	assert_string_equal(tar.data + 100, "0000600");
	assert_string_equal(tar.data + 124, "00000000005");
	assert_string_equal(tar.data + 136, "14524770400");
	assert_string_equal(tar.data + 257, "ustar");
	assert_string_equal(tar.data + 512, "hello");
	for (size_t i = 0; i < 512; i++)
		sum += i >= 148 && i < 156 ? ' ' : (unsigned char)tar.data[i];
	assert_int_equal(strtoul(tar.data + 148, NULL, 8), sum);
	assert_int_equal(tar_add(&tiny, "file", 0600, 0, "hello", 5), -EFBIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gzip_deflate), cmocka_unit_test(test_tar),
		cmocka_unit_test(test_base64),      cmocka_unit_test(test_base64_limits),
		cmocka_unit_test(test_time_parse),  cmocka_unit_test(test_time_days),
		cmocka_unit_test(test_time_format), cmocka_unit_test(test_uri),
		cmocka_unit_test(test_uri_refused), cmocka_unit_test(test_uri_from_a_secret), cmocka_unit_test(test_uri_escapes),
		cmocka_unit_test(test_gzip),        cmocka_unit_test(test_sha256),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
