/* Watching user data: formats as cloud-init tells them apart, every answer against every state, the sentences. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <zlib.h>

#include "agent/base/limits.h"
#include "agent/core/exit_codes.h"
#include "agent/core/settings_common.h"
#include "agent/core/userdata_plan.h"

#define BOOT  (1000 * USEC_PER_SEC)
#define WALL  ((usec_t)1763632800 * USEC_PER_SEC) /* 2025-11-20T10:00:00Z */
#define EVERY (60 * USEC_PER_SEC)
#define MID   (UINT32_MAX / 2 + 1) /* the middle of the jitter: none */

#define SHA_A "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881" /* of "x" */

static const struct userdata_settings report = { .polling_interval_seconds = 60 };

static struct userdata_clock at(usec_t seconds)
{
	return (struct userdata_clock){ EVERY, MID, BOOT + seconds * USEC_PER_SEC, WALL + seconds * USEC_PER_SEC };
}

static struct userdata_step look(struct userdata_plan *p, const char *data, usec_t seconds)
{
	const struct userdata_clock c = at(seconds);
	struct userdata_step step;

	assert_int_equal(userdata_answered(p, data, strlen(data), &c, &step), 0);
	return step;
}

static struct userdata_step fail_with(struct userdata_plan *p, int status, usec_t retry_after, usec_t seconds)
{
	const struct userdata_clock c = at(seconds);
	struct userdata_step step;
	struct error why = ERROR_INIT;

	(void)error_set(&why, ERROR_TRANSIENT, -5, "HTTP %d", status);
	userdata_failed(p, status, retry_after, &why, &c, &step);
	return step;
}

/* Jitter loses a part in 2^32. */
static void assert_about(usec_t a, usec_t b)
{
	assert_in_range(a, b - 1000, b + 1000);
}

static void says_for(const struct userdata_plan *p, const struct userdata_settings *s, usec_t seconds,
		     enum status_level level, int code, const char *sentence)
{
	_cleanup_buf_ struct buf out = BUF_INIT(LIMIT_STATUS_MESSAGE);
	int c;

	assert_int_equal(
		userdata_describe(p, s, BOOT + seconds * USEC_PER_SEC, WALL + seconds * USEC_PER_SEC, &out, &c), level);
	assert_string_equal(buf_str(&out), sentence);
	assert_int_equal(c, code);
}

static void says(const struct userdata_plan *p, usec_t seconds, enum status_level level, const char *sentence)
{
	says_for(p, &report, seconds, level, level == STATUS_WARNING ? CODE_IMDS_ERROR : CODE_NONE, sentence);
}

/* ---- formats ---- */

static void test_formats(void **state)
{
	static const struct {
		const char *text;
		enum userdata_format format;
	} cases[] = {
		{ "#!/bin/sh\n", USERDATA_FORMAT_SHELLSCRIPT },
		{ "\n \t#!/bin/sh\n", USERDATA_FORMAT_SHELLSCRIPT },
		{ "#cloud-config\n", USERDATA_FORMAT_CLOUD_CONFIG },
		{ "#CLOUD-Config\n", USERDATA_FORMAT_CLOUD_CONFIG },
		{ "#cloud-config-archive\n", USERDATA_FORMAT_CLOUD_CONFIG_ARCHIVE },
		{ "#cloud-config-jsonp\n", USERDATA_FORMAT_CLOUD_CONFIG_JSONP },
		{ "#cloud-boothook\n", USERDATA_FORMAT_BOOTHOOK },
		{ "#include\nhttps://x", USERDATA_FORMAT_INCLUDE },
		{ "#include-once\nhttps://x", USERDATA_FORMAT_INCLUDE_ONCE },
		{ "#part-handler\n", USERDATA_FORMAT_PART_HANDLER },
		{ "## template: jinja\n#cloud-config", USERDATA_FORMAT_JINJA },
		{ "Content-Type: multipart/mixed\nMIME-Version: 1.0\n", USERDATA_FORMAT_MIME },
		{ "#!/bin/sh\n# mime-version: 1\n", USERDATA_FORMAT_MIME },
		{ "{\"settings\":1}", USERDATA_FORMAT_UNKNOWN },
		{ "# a comment", USERDATA_FORMAT_UNKNOWN },
		{ "#", USERDATA_FORMAT_UNKNOWN },
		{ "   ", USERDATA_FORMAT_UNKNOWN },
		{ "", USERDATA_FORMAT_UNKNOWN },
		{ "\xef\xbb\xbf#!/bin/sh\n", USERDATA_FORMAT_UNKNOWN },
		/* cloud-init looks at the first bytes, whatever follows. */
		{ "#!/bin/sh \xff\xfe", USERDATA_FORMAT_SHELLSCRIPT },
		{ "\xc2\xa0\xe3\x80\x80#!/bin/sh", USERDATA_FORMAT_SHELLSCRIPT },
		{ "\xff#!/bin/sh", USERDATA_FORMAT_BINARY },
		{ "\x1f\x8b\x08 not gzip", USERDATA_FORMAT_BINARY },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct userdata_form f = userdata_detect(cases[i].text, strlen(cases[i].text));

		assert_int_equal(f.format, cases[i].format);
		assert_false(f.gzip);
	}
	for (int f = 0; f < _USERDATA_FORMAT_MAX; f++)
		assert_true(strlen(userdata_format_phrase(f)) > 0);
	assert_string_equal(userdata_format_phrase(-1), userdata_format_phrase(0));
	assert_string_equal(userdata_format_phrase(_USERDATA_FORMAT_MAX), userdata_format_phrase(0));
}

static void test_mime_counts_in_the_first_bytes_only(void **state)
{
	char text[6000];

	(void)state;
	memset(text, ' ', sizeof(text));
	memcpy(text, "#!/bin/sh", 9);
	memcpy(text + 4096 - 13, "mime-version:", 13);
	assert_int_equal(userdata_detect(text, sizeof(text)).format, USERDATA_FORMAT_MIME);
	memset(text + 9, ' ', sizeof(text) - 9);
	memcpy(text + 4096 - 12, "mime-version:", 13);
	assert_int_equal(userdata_detect(text, sizeof(text)).format, USERDATA_FORMAT_SHELLSCRIPT);
}

static void test_gzip_is_opened(void **state)
{
	static const char inside[] = "#cloud-config\npackages: [nginx]\n";
	unsigned char packed[256];
	z_stream z = { 0 };
	struct userdata_form f;

	(void)state;
	assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	z.next_in = (unsigned char *)(uintptr_t)inside;
	z.avail_in = sizeof(inside) - 1;
	z.next_out = packed;
	z.avail_out = sizeof(packed);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	f = userdata_detect(packed, z.total_out);
	assert_true(f.gzip);
	assert_int_equal(f.format, USERDATA_FORMAT_CLOUD_CONFIG);
	/* Cut: the raw bytes count, as in cloud-init. */
	f = userdata_detect(packed, z.total_out - 9);
	assert_false(f.gzip);
	assert_int_equal(f.format, USERDATA_FORMAT_BINARY);
	(void)deflateEnd(&z);
}

/* ---- answers ---- */

static void test_first_and_same(void **state)
{
	_cleanup_(userdata_plan_done) struct userdata_plan p = { 0 };
	struct userdata_step s;

	(void)state;
	says(&p, 0, STATUS_TRANSITIONING, "Looking for user data");
	s = look(&p, "x", 0);
	assert_int_equal(s.change, USERDATA_FIRST);
	assert_true(s.keep_copy && s.save && s.tell && !s.recovered);
	assert_string_equal(p.record.sha256, SHA_A);
	assert_about(p.next_boot, BOOT + EVERY);
	p.copy_due = false;
	says(&p, 1, STATUS_SUCCESS,
	     "User data revision 2d711642b726, 1 byte, text of no kind that cloud-init knows, seen since "
	     "2025-11-20T10:00:00Z");
	s = look(&p, "x", 60);
	assert_int_equal(s.change, USERDATA_SAME);
	assert_true(!s.keep_copy && !s.save && !s.tell);
	/* The time of the last agreement goes to disk once an hour. */
	assert_false(look(&p, "x", 3599).save);
	assert_true(look(&p, "x", 3600).save);
	assert_false(look(&p, "x", 3660).save);
	/* A wall clock that was set back is followed. */
	assert_true(look(&p, "x", 10).save);
	assert_false(look(&p, "x", 70).save);
}

static void test_jitter_is_ten_percent(void **state)
{
	_cleanup_(userdata_plan_done) struct userdata_plan p = { 0 };
	struct userdata_clock c = at(0);
	struct userdata_step s;

	(void)state;
	c.random = 0;
	assert_int_equal(userdata_answered(&p, "x", 1, &c, &s), 0);
	assert_about(p.next_boot, BOOT + 54 * USEC_PER_SEC);
	c.random = UINT32_MAX;
	assert_int_equal(userdata_answered(&p, "x", 1, &c, &s), 0);
	assert_about(p.next_boot, BOOT + 66 * USEC_PER_SEC);
}

static void test_changed(void **state)
{
	_cleanup_(userdata_plan_done) struct userdata_plan p = { 0 };
	struct userdata_step s;

	(void)state;
	(void)look(&p, "x", 0);
	p.copy_due = false;
	s = look(&p, "#!/bin/sh\n", 60);
	assert_int_equal(s.change, USERDATA_CHANGED);
	assert_true(s.keep_copy && s.save && s.tell);
	/* As long as its bytes are not on the disk it is not well. */
	says(&p, 61, STATUS_TRANSITIONING,
	     "User data revision a8076d3d28d2, 10 bytes, a shell script (#!), seen since 2025-11-20T10:01:00Z; "
	     "it replaced an earlier revision; its copy is yet to be kept");
	/* Not kept so far: asked for again at every answer. */
	assert_true(look(&p, "#!/bin/sh\n", 120).keep_copy);
	p.copy_due = false;
	assert_false(look(&p, "#!/bin/sh\n", 180).keep_copy);
}

static void test_empty_counts_after_three_looks(void **state)
{
	_cleanup_(userdata_plan_done) struct userdata_plan p = { 0 };
	struct userdata_step s;

	(void)state;
	(void)look(&p, "x", 0);
	p.copy_due = false;
	s = look(&p, "", 60);
	assert_true(s.change == USERDATA_SAME && !s.save && s.tell && !s.keep_copy);
	assert_about(p.next_boot, BOOT + 70 * USEC_PER_SEC);
	says(&p, 60, STATUS_SUCCESS,
	     "The metadata service answers without user data (1 of 3 looks before that counts); the last good copy is "
	     "kept: "
	     "revision 2d711642b726, 1 byte, text of no kind that cloud-init knows, seen since 2025-11-20T10:00:00Z, "
	     "last confirmed 1 min ago");
	s = look(&p, "", 70);
	assert_int_equal(s.change, USERDATA_SAME);
	s = look(&p, "", 80);
	assert_int_equal(s.change, USERDATA_REMOVED);
	assert_true(s.save && s.tell && !s.keep_copy);
	assert_string_equal(p.record.sha256, SHA_A);
	assert_about(p.next_boot, BOOT + 140 * USEC_PER_SEC);
	says(&p, 81, STATUS_SUCCESS,
	     "User data was removed (seen 2025-11-20T10:01:20Z); the last good copy is kept: revision 2d711642b726, 1 "
	     "byte, "
	     "text of no kind that cloud-init knows, seen since 2025-11-20T10:00:00Z");
	s = look(&p, "", 140);
	assert_true(s.change == USERDATA_SAME && !s.save && !s.tell);
	assert_about(p.next_boot, BOOT + 200 * USEC_PER_SEC);
	s = look(&p, "x", 200);
	assert_int_equal(s.change, USERDATA_RETURNED);
	assert_true(s.save && !s.keep_copy && s.tell);
	assert_int_equal(p.record.removed_usec, 0);
	/* And other bytes after a removal are a change. */
	for (unsigned i = 0; i < USERDATA_EMPTY_LOOKS; i++)
		s = look(&p, "", 260 + i * 10);
	assert_int_equal(s.change, USERDATA_REMOVED);
	assert_int_equal(look(&p, "y", 400).change, USERDATA_CHANGED);
}

static void test_empties_must_follow_one_another(void **state)
{
	_cleanup_(userdata_plan_done) struct userdata_plan p = { 0 };

	(void)state;
	(void)look(&p, "x", 0);
	(void)look(&p, "", 60);
	(void)look(&p, "", 70);
	assert_true(look(&p, "x", 80).tell);
	(void)look(&p, "", 140);
	(void)look(&p, "", 150);
	(void)fail_with(&p, 500, 0, 160);
	assert_int_equal(look(&p, "", 161).change, USERDATA_SAME);
	assert_int_equal(look(&p, "", 171).change, USERDATA_SAME);
	assert_int_equal(look(&p, "", 181).change, USERDATA_REMOVED);
}

static void test_a_short_interval_is_not_stretched(void **state)
{
	_cleanup_(userdata_plan_done) struct userdata_plan p = { 0 };
	struct userdata_clock c = at(0);
	struct userdata_step s;

	(void)state;
	c.interval = 4 * USEC_PER_SEC;
	assert_int_equal(userdata_answered(&p, NULL, 0, &c, &s), 0);
	assert_about(p.next_boot, BOOT + 4 * USEC_PER_SEC);
}

static void test_never_set(void **state)
{
	_cleanup_(userdata_plan_done) struct userdata_plan p = { 0 };
	struct userdata_step s;

	(void)state;
	s = look(&p, "", 0);
	says(&p, 0, STATUS_TRANSITIONING,
	     "The metadata service answers without user data (1 of 3 looks before that counts); no user data has been "
	     "seen so far");
	(void)look(&p, "", 10);
	s = look(&p, "", 20);
	assert_true(s.change == USERDATA_SAME && !s.save && s.tell);
	says(&p, 20, STATUS_SUCCESS, "No user data is set");
	assert_false(look(&p, "", 80).tell);
	assert_int_equal(look(&p, "x", 140).change, USERDATA_FIRST);
}

/* ---- failures ---- */

static void test_failures_and_waits(void **state)
{
	_cleanup_(userdata_plan_done) struct userdata_plan p = { 0 };
	struct userdata_step s;

	(void)state;
	s = fail_with(&p, 0, 0, 0);
	assert_true(s.tell && !s.save && !s.keep_copy);
	assert_about(p.next_boot, BOOT + 1 * USEC_PER_SEC);
	(void)fail_with(&p, 0, 0, 1);
	assert_about(p.next_boot, BOOT + 3 * USEC_PER_SEC);
	(void)fail_with(&p, 429, 7 * USEC_PER_SEC, 3);
	assert_in_range(p.next_boot, BOOT + 10 * USEC_PER_SEC, BOOT + 11 * USEC_PER_SEC);
	/* What the table does not try again waits for the next poll. */
	(void)fail_with(&p, 403, 0, 20);
	assert_about(p.next_boot, BOOT + 80 * USEC_PER_SEC);
	says(&p, 20, STATUS_WARNING,
	     "User data cannot be read: HTTP 403; next try in 1 min; no user data has been seen so far");
	s = look(&p, "x", 80);
	assert_true(s.recovered && s.tell);
	p.copy_due = false;
	(void)fail_with(&p, 500, 0, 80 + 3600);
	assert_about(p.next_boot, BOOT + 3681 * USEC_PER_SEC);
	says(&p, 80 + 3600, STATUS_WARNING,
	     "User data cannot be read: HTTP 500; next try in 1 s; the last good copy is kept: revision 2d711642b726, "
	     "1 byte, "
	     "text of no kind that cloud-init knows, seen since 2025-11-20T10:01:20Z, last confirmed 1 h ago");
	assert_false(look(&p, "x", 4000).keep_copy);
}

static void test_a_failure_without_words_still_fails(void **state)
{
	_cleanup_(userdata_plan_done) struct userdata_plan p = { 0 };
	const struct userdata_clock c = at(0);
	const struct error none = ERROR_INIT;
	struct userdata_step s;

	(void)state;
	userdata_failed(&p, 0, 0, &none, &c, &s);
	assert_true(p.problem.msg[0]);
	assert_true(look(&p, "x", 1).recovered);
}

/* ---- record and copy ---- */

static void test_record_round_trip(void **state)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_USER_DATA_RECORD);
	_cleanup_(userdata_plan_done) struct userdata_plan p = { 0 };
	_cleanup_(userdata_record_done) struct userdata_record r = { 0 };

	(void)state;
	(void)look(&p, "#!/bin/sh\n", 5);
	assert_int_equal(userdata_record_encode(&p.record, &text), 0);
	assert_int_equal(userdata_record_decode(buf_str(&text), text.len, &r, NULL), 0);
	assert_string_equal(r.sha256, p.record.sha256);
	assert_int_equal(r.size, 10);
	assert_int_equal(r.form.format, USERDATA_FORMAT_SHELLSCRIPT);
	assert_int_equal(r.change, USERDATA_FIRST);
	assert_int_equal(r.seen_usec, WALL + 5 * USEC_PER_SEC);
	assert_int_equal(r.confirmed_usec, WALL + 5 * USEC_PER_SEC);
}

static void test_damaged_records(void **state)
{
	static const char *const texts[] = {
		"",
		"{",
		"[]",
		"{\"sha256\":\"12\"}",
		"{\"size\":-1}",
		"{\"seenUsec\":-5}",
		"{\"sha256\":\"ZZ711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881\"}"
	};
	struct userdata_record r = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_true(userdata_record_decode(texts[i], strlen(texts[i]), &r, NULL) < 0);
	assert_null(r.sha256);
	/* Words of a later program are not damage. */
	assert_int_equal(userdata_record_decode("{\"format\":\"toml\",\"change\":\"merged\",\"more\":1}", 44, &r, NULL),
			 0);
	assert_int_equal(r.form.format, USERDATA_FORMAT_UNKNOWN);
	assert_int_equal(r.change, USERDATA_CHANGED);
	userdata_record_done(&r);
}

static void test_copy_against_record(void **state)
{
	(void)state;
	for (int recorded = 0; recorded < 2; recorded++) {
		static const char *const copies[] = { NULL, "x", "y" };

		for (size_t i = 0; i < 3; i++) {
			_cleanup_(userdata_plan_done) struct userdata_plan p = { 0 };

			if (recorded) {
				(void)look(&p, "x", 0);
				p.copy_due = false;
			}
			assert_int_equal(userdata_found(&p, copies[i], copies[i] ? 1 : 0, WALL), 0);
			assert_int_equal(p.copy_due, recorded && i != 1);
			assert_int_equal(!!p.record.sha256, recorded || i != 0);
			/* The next answer puts it right. */
			assert_int_equal(look(&p, "x", 60).keep_copy, i != 1);
			assert_string_equal(p.record.sha256, SHA_A);
		}
	}
}

static void test_after_a_restart_offline(void **state)
{
	_cleanup_(userdata_plan_done) struct userdata_plan p = { 0 };

	(void)state;
	(void)look(&p, "x", 0);
	p = (struct userdata_plan){ .record = p.record };
	assert_int_equal(userdata_found(&p, "x", 1, WALL), 0);
	(void)fail_with(&p, 0, 0, 120);
	says(&p, 120, STATUS_WARNING,
	     "User data cannot be read: HTTP 0; next try in 1 s; the last good copy is kept: revision 2d711642b726, 1 "
	     "byte, "
	     "text of no kind that cloud-init knows, seen since 2025-11-20T10:00:00Z, last confirmed 2 min ago");
	/* The copy is gone, too: no promise. */
	p.copy_due = true;
	says(&p, 120, STATUS_WARNING,
	     "User data cannot be read: HTTP 0; next try in 1 s; last seen: revision 2d711642b726, 1 byte, "
	     "text of no kind that cloud-init knows, seen since 2025-11-20T10:00:00Z, last confirmed 2 min ago");
}

/* ---- custom data, and what cannot be kept ---- */

static void test_custom_data_is_called_so(void **state)
{
	struct userdata_settings s = report;
	_cleanup_(userdata_plan_done) struct userdata_plan p = { 0 };

	(void)state;
	s.source = USERDATA_CUSTOM_DATA;
	says_for(&p, &s, 0, STATUS_TRANSITIONING, CODE_NONE, "Looking for custom data");
	(void)look(&p, "", 0);
	says_for(&p, &s, 1, STATUS_TRANSITIONING, CODE_NONE,
		 "Provisioning has left the machine without custom data (1 of 3 looks before that counts); no custom data has been seen "
		 "so far");
	(void)look(&p, "x", 2);
	p.copy_due = false;
	says_for(&p, &s, 3, STATUS_SUCCESS, CODE_NONE,
		 "Custom data revision 2d711642b726, 1 byte, text of no kind that cloud-init knows, seen since 2025-11-20T10:00:02Z");
}

static void test_what_cannot_be_kept_is_told(void **state)
{
	_cleanup_(userdata_plan_done) struct userdata_plan p = { 0 };

	(void)state;
	(void)look(&p, "x", 0);
	(void)error_set(&p.copy_problem, ERROR_SYSTEM, -28, "disk full");
	says_for(&p, &report, 1, STATUS_WARNING, CODE_NONE,
		 "User data revision 2d711642b726, 1 byte, text of no kind that cloud-init knows, seen since "
		 "2025-11-20T10:00:00Z; "
		 "it cannot be kept: disk full");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_formats),
		cmocka_unit_test(test_mime_counts_in_the_first_bytes_only),
		cmocka_unit_test(test_gzip_is_opened),
		cmocka_unit_test(test_first_and_same),
		cmocka_unit_test(test_jitter_is_ten_percent),
		cmocka_unit_test(test_changed),
		cmocka_unit_test(test_empty_counts_after_three_looks),
		cmocka_unit_test(test_empties_must_follow_one_another),
		cmocka_unit_test(test_a_short_interval_is_not_stretched),
		cmocka_unit_test(test_never_set),
		cmocka_unit_test(test_failures_and_waits),
		cmocka_unit_test(test_a_failure_without_words_still_fails),
		cmocka_unit_test(test_record_round_trip),
		cmocka_unit_test(test_damaged_records),
		cmocka_unit_test(test_copy_against_record),
		cmocka_unit_test(test_after_a_restart_offline),
		cmocka_unit_test(test_custom_data_is_called_so),
		cmocka_unit_test(test_what_cannot_be_kept_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
