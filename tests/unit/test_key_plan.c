/* Key refresh as a plan: what is found against what is installed, when to ask again, every sentence. Virtual time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/core/exit_codes.h"
#include "agent/core/key_plan.h"
#include "agent/core/settings_common.h"

#define BOOT  (1000 * USEC_PER_SEC)
#define WALL  ((usec_t)1763632800 * USEC_PER_SEC) /* 2025-11-20T10:00:00Z */
#define EVERY (3600 * USEC_PER_SEC)
#define MID   (UINT32_MAX / 2 + 1) /* the middle of the jitter: none */
#define V1    "0123456789abcdef0123456789abcde1"
#define V2    "0123456789abcdef0123456789abcde2"
#define T1    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA1"
#define T2    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA2"
/* A text that the settings' structs take. */
#define MUTABLE(text) ((char[]){ text })
#define URL	      "https://v.vault.azure.net/secrets/web"

static int64_t warning_days[] = { 30, 14, 7, 1 };
static const struct key_refresh_settings section = { .polling_interval_seconds = 3600,
						     .initial_sync_timeout_seconds = 1800,
						     .identity_endpoint =
							     MUTABLE("http://169.254.169.254/metadata/identity"),
						     .expiry_warning_days = { warning_days, 4 } };
static const struct certificate_settings web = { .name = MUTABLE("web"),
						 .url = MUTABLE(URL),
						 .files = { .fullchain = MUTABLE("fullchain.pem"),
							    .key = MUTABLE("privkey.pem") },
						 .owner = MUTABLE("root"),
						 .group = MUTABLE("root"),
						 .mode = MUTABLE("0600"),
						 .keep_versions = 2 };
static const struct key_secret_settings word = { .name = MUTABLE("word"),
						 .url = MUTABLE("https://v.vault.azure.net/secrets/word"),
						 .path = MUTABLE("/etc/app/word"),
						 .owner = MUTABLE("root"),
						 .group = MUTABLE("root"),
						 .mode = MUTABLE("0600") };

static struct key_clock at(usec_t seconds)
{
	return (struct key_clock){ EVERY, MID, BOOT + seconds * USEC_PER_SEC, WALL + seconds * USEC_PER_SEC };
}

static struct key_found found(const char *version, const char *thumbprint, int64_t made_days_ago, int64_t left_days)
{
	struct key_found f = { .created = WALL - (usec_t)made_days_ago * USEC_PER_DAY,
			       .not_before = WALL - (usec_t)made_days_ago * USEC_PER_DAY,
			       .not_after = WALL + (usec_t)left_days * USEC_PER_DAY };

	strcpy(f.version, version);
	strcpy(f.thumbprint, thumbprint);
	return f;
}

static void wish(struct key_item *i, const struct certificate_settings *c)
{
	i->wish = (struct key_wish){ .certificate = c };
	assert_int_equal(key_shape(&i->wish, NULL, i->shape), 0);
	assert_int_equal(key_origin(&section, &i->wish, i->origin), 0);
	i->deadline_boot = BOOT + 1800 * USEC_PER_SEC;
	i->spread = true; /* the first poll has a test of its own */
}

static void installed(struct key_item *i, const struct key_found *f, usec_t seconds)
{
	const struct key_clock c = at(seconds);

	assert_int_equal(key_was_installed(i, f, i->shape, key_url(&i->wish), "system-assigned", &c), 0);
}

/* Jitter loses a part in 2^32. */
static void assert_next(const struct key_item *i, usec_t seconds)
{
	assert_in_range(i->next_boot, BOOT + seconds * USEC_PER_SEC - 10000, BOOT + seconds * USEC_PER_SEC + 10000);
}

static void says_of(const struct key_item *i, const struct key_refresh_settings *k, usec_t seconds,
		    enum status_level level, enum duty duty, int code, const char *sentence)
{
	_cleanup_buf_ struct buf out = BUF_INIT(LIMIT_STATUS_MESSAGE);
	struct component c;

	key_describe(i, k, BOOT + seconds * USEC_PER_SEC, WALL + seconds * USEC_PER_SEC, &out, &c);
	assert_string_equal(buf_str(&out), sentence);
	assert_int_equal(c.level, level);
	assert_int_equal(c.duty, duty);
	assert_int_equal(c.code, code);
}

static void says(const struct key_item *i, usec_t seconds, enum status_level level, enum duty duty, int code,
		 const char *sentence)
{
	says_of(i, &section, seconds, level, duty, code, sentence);
}

static struct error words(enum error_class cls, const char *text)
{
	struct error e = ERROR_INIT;

	(void)error_set(&e, cls, -5, "%s", text);
	return e;
}

/* ---- the verdict ---- */

/* Every cell: what is installed × what is found × pinned × files there. */
static void test_verdicts(void **state)
{
	enum { NONE, SAME_OTHER_SHAPE, ONE, EXPIRED_ONE, OTHER_URL };
	enum { SAME, NEWER, OLDER, SAME_TIME_OLDER_CERT, EXPIRED, FUTURE, SKEWED };
	static const struct {
		int have, find;
		bool pinned, there;
		enum key_verdict verdict;
	} cells[] = {
		{ NONE, NEWER, false, false, KEY_INSTALL },
		{ NONE, OLDER, false, false, KEY_INSTALL },
		{ NONE, NEWER, true, false, KEY_INSTALL },
		{ NONE, EXPIRED, false, false, KEY_REFUSE },
		{ NONE, EXPIRED, true, false, KEY_REFUSE },
		{ NONE, FUTURE, false, false, KEY_REFUSE },
		{ NONE, SKEWED, false, false, KEY_INSTALL },
		{ ONE, SAME, false, true, KEY_KEEP },
		{ ONE, SAME, true, true, KEY_KEEP },
		{ ONE, SAME, false, false, KEY_INSTALL },
		{ ONE, NEWER, false, true, KEY_INSTALL },
		{ ONE, NEWER, false, false, KEY_INSTALL },
		{ ONE, OLDER, false, true, KEY_REFUSE },
		{ ONE, OLDER, false, false, KEY_REFUSE },
		{ ONE, OLDER, true, true, KEY_INSTALL },
		{ ONE, SAME_TIME_OLDER_CERT, false, true, KEY_REFUSE },
		{ ONE, EXPIRED, false, true, KEY_REFUSE },
		{ ONE, EXPIRED, true, true, KEY_REFUSE },
		{ ONE, FUTURE, false, true, KEY_REFUSE },
		{ ONE, SKEWED, false, true, KEY_INSTALL },
		{ SAME_OTHER_SHAPE, SAME, false, true, KEY_INSTALL },
		{ SAME_OTHER_SHAPE, NEWER, false, true, KEY_INSTALL },
		{ SAME_OTHER_SHAPE, OLDER, false, true, KEY_REFUSE },
		{ EXPIRED_ONE, SAME, false, true, KEY_KEEP },
		{ EXPIRED_ONE, SAME, false, false, KEY_REFUSE },
		{ EXPIRED_ONE, NEWER, false, true, KEY_INSTALL },
		{ EXPIRED_ONE, OLDER, false, true, KEY_INSTALL },
		{ OTHER_URL, SAME, false, true, KEY_INSTALL },
		{ OTHER_URL, OLDER, false, true, KEY_INSTALL },
		{ OTHER_URL, EXPIRED, false, true, KEY_REFUSE },
	};

	static char other_mode[] = "0640", other_url[] = "https://v.vault.azure.net/secrets/other";

	(void)state;
	for (size_t n = 0; n < sizeof(cells) / sizeof(cells[0]); n++) {
		_cleanup_(key_item_done) struct key_item i = { 0 };
		struct key_found have = found(V1, T1, 10, cells[n].have == EXPIRED_ONE ? -1 : 80), f;
		struct certificate_settings other = web;
		struct error why = ERROR_INIT;
		enum key_verdict v;

		wish(&i, &web);
		if (cells[n].have != NONE)
			installed(&i, &have, 0);
		if (cells[n].have == SAME_OTHER_SHAPE)
			other.mode = other_mode;
		if (cells[n].have == OTHER_URL)
			other.url = other_url;
		wish(&i, &other);
		switch (cells[n].find) {
		case SAME:
			f = have;
			break;
		case NEWER:
			f = found(V2, T2, 1, 90);
			break;
		case OLDER:
			f = found(V2, T2, 20, 70);
			break;
		case SAME_TIME_OLDER_CERT:
			f = found(V2, T2, 20, 70);
			f.created = have.created;
			break;
		case EXPIRED:
			f = found(V2, T2, 1, 0);
			break;
		case FUTURE:
			f = found(V2, T2, 1, 90);
			f.not_before = WALL + KEY_SKEW_USEC + 1;
			break;
		default:
			f = found(V2, T2, 1, 90);
			f.not_before = WALL + KEY_SKEW_USEC;
			break;
		}
		v = key_judge(&i, &f, cells[n].pinned, cells[n].there, WALL, &why);
		if (v != cells[n].verdict)
			fail_msg("cell %zu: verdict %d, expected %d (%s)", n, (int)v, (int)cells[n].verdict, why.msg);
		assert_int_equal(!!why.msg[0], v == KEY_REFUSE);
	}
}

static void test_created_tells_before_the_dates_do(void **state)
{
	_cleanup_(key_item_done) struct key_item i = { 0 };
	struct key_found have = found(V1, T1, 10, 80), f = found(V2, T2, 20, 70);
	struct error why = ERROR_INIT;

	(void)state;
	wish(&i, &web);
	installed(&i, &have, 0);
	/* Somebody put an older certificate into the vault today: that is what is wanted. */
	f.created = WALL;
	assert_int_equal(key_judge(&i, &f, false, true, WALL, &why), KEY_INSTALL);
	/* The vault does not say. */
	f.created = 0;
	assert_int_equal(key_judge(&i, &f, false, true, WALL, &why), KEY_REFUSE);
	assert_string_equal(why.msg, "version " V2 " of the vault is older than the one installed (" V1
				     "), which stays; to go back on purpose, name the version in the url");
	/* The same version with another certificate is not the same. */
	f = have;
	strcpy(f.thumbprint, T2);
	assert_int_equal(key_judge(&i, &f, false, true, WALL, &why), KEY_INSTALL);
}

static void test_versions_become_names(void **state)
{
	static const char *const bad[] = { "", "../x", "a/b", "v1", "0123 ", "." };
	_cleanup_(key_item_done) struct key_item i = { 0 };
	char set[KEY_SET_MAX], expected[KEY_SET_MAX];

	(void)state;
	wish(&i, &web);
	for (size_t n = 0; n < sizeof(bad) / sizeof(bad[0]); n++) {
		struct key_found f = found(bad[n], T1, 1, 90);
		struct error why = ERROR_INIT;

		assert_int_equal(key_judge(&i, &f, true, false, WALL, &why), KEY_REFUSE);
	}
	{
		struct key_found f = found(V1, T1, 1, 90);

		(void)snprintf(expected, sizeof(expected), V1 "-%.8s", i.shape);
		assert_string_equal(key_set_name(&i, &f, set), expected);
		/* Made again because files are missing: not the name that is current. */
		installed(&i, &f, 0);
		assert_string_not_equal(key_set_name(&i, &f, set), expected);
		assert_true(str_starts(set, expected));
	}
}

static void test_plain_secrets_have_no_dates(void **state)
{
	_cleanup_(key_item_done) struct key_item i = { .wish = { .secret = &word } };
	struct key_found f = { .version = V1, .created = WALL }, g = { .version = V2, .created = WALL + 1 };
	struct error why = ERROR_INIT;

	(void)state;
	assert_int_equal(key_shape(&i.wish, NULL, i.shape), 0);
	assert_int_equal(key_judge(&i, &f, false, false, WALL, &why), KEY_INSTALL);
	installed(&i, &f, 0);
	assert_int_equal(key_judge(&i, &f, false, true, WALL, &why), KEY_KEEP);
	assert_int_equal(key_judge(&i, &f, false, false, WALL, &why), KEY_INSTALL);
	assert_int_equal(key_judge(&i, &g, false, true, WALL, &why), KEY_INSTALL);
	g.created = WALL - 1;
	assert_int_equal(key_judge(&i, &g, false, true, WALL, &why), KEY_REFUSE);
	says(&i, 1, STATUS_SUCCESS, DUTY_DONE, CODE_NONE, "Version " V1 ", read as system-assigned");
	assert_int_equal(key_expiry_days(&section, &i.record, WALL), -1);
}

/* ---- digests ---- */

static void test_shape_and_origin(void **state)
{
	char a[SHA256_HEX_MAX], b[SHA256_HEX_MAX], o[SHA256_HEX_MAX], p[SHA256_HEX_MAX];
	struct acl_settings acl = { .user = MUTABLE("app") };
	struct identity id = { .client_id = MUTABLE("x") };
	const struct key_wish w = { .certificate = &web };
	struct certificate_settings changed[] = { web, web, web, web, web, web, web, web };

	(void)state;
	changed[0].mode = MUTABLE("0640");
	changed[1].owner = MUTABLE("www-data");
	changed[2].directory = MUTABLE("/etc/app");
	changed[3].files.key = MUTABLE("key.pem");
	changed[4].files.chain = MUTABLE("chain.pem");
	changed[5].acls = (struct jd_list){ &acl, 1 };
	changed[6].files.combined = changed[6].files.fullchain;
	changed[6].files.fullchain = NULL;
	changed[7].files.pkcs12 = MUTABLE("web.p12");
	assert_int_equal(key_shape(&w, "salt", a), 0);
	assert_int_equal(key_origin(&section, &w, o), 0);
	for (size_t i = 0; i < sizeof(changed) / sizeof(changed[0]); i++) {
		const struct key_wish c = { .certificate = &changed[i] };

		assert_int_equal(key_shape(&c, "salt", b), 0);
		assert_string_not_equal(a, b);
		assert_int_equal(key_origin(&section, &c, p), 0);
		assert_string_equal(o, p);
	}
	/* How many are kept, and where it comes from, make no other files. */
	{
		struct certificate_settings other = web;
		const struct key_wish c = { .certificate = &other };

		other.keep_versions = 5;
		other.identity = &id;
		assert_int_equal(key_shape(&c, "other", b), 0);
		assert_string_equal(a, b);
		assert_int_equal(key_origin(&section, &c, p), 0);
		assert_string_not_equal(o, p);
		assert_ptr_equal(key_identity(&section, &c), &id);
		assert_null(key_identity(&section, &w)->client_id);
	}
}

/* Another password makes another file, and nobody can try passwords against the name of the set. */
static void test_passwords_shape(void **state)
{
	struct certificate_settings pfx = web;
	const struct key_wish w[] = { { .certificate = &web },
				      { .certificate = &pfx },
				      { .certificate = &pfx, .password = "word" },
				      { .certificate = &pfx, .password = "another" } };
	char shapes[4][SHA256_HEX_MAX], salted[SHA256_HEX_MAX];

	(void)state;
	pfx.files.pkcs12 = MUTABLE("web.p12");
	for (size_t a = 0; a < 4; a++) {
		assert_int_equal(key_shape(&w[a], "salt", shapes[a]), 0);
		for (size_t b = 0; b < a; b++)
			assert_string_not_equal(shapes[a], shapes[b]);
		assert_int_equal(key_shape(&w[a], "other", salted), 0);
		assert_int_equal(str_equal(salted, shapes[a]), a < 2);
	}
}

static void test_first_install_in_time(void **state)
{
	_cleanup_(key_item_done) struct key_item i = { 0 };
	const struct key_found f = found(V1, T1, 1, 90);
	struct error why = words(ERROR_PLATFORM, "403 Forbidden");
	struct key_clock c = at(10);

	(void)state;
	wish(&i, &web);
	says(&i, 0, STATUS_TRANSITIONING, DUTY_OPEN, CODE_NONE, "Being fetched");
	key_fetch_failed(&i, 403, 0, &why, &c);
	assert_next(&i, 25);
	assert_string_equal(i.record.error, "403 Forbidden");
	assert_int_equal(i.record.next_usec, i.next_boot - BOOT + WALL);
	says(&i, 10, STATUS_TRANSITIONING, DUTY_OPEN, CODE_NONE, "Not installed yet: 403 Forbidden; next try in 15 s");
	says(&i, 30, STATUS_TRANSITIONING, DUTY_OPEN, CODE_NONE,
	     "Not installed yet: 403 Forbidden; it is being tried again");
	/* Late: an error, but the tries go on. */
	c = at(1795);
	key_fetch_failed(&i, 403, 0, &why, &c);
	says(&i, 1799, STATUS_TRANSITIONING, DUTY_OPEN, CODE_NONE,
	     "Not installed yet: 403 Forbidden; next try in 26 s");
	says(&i, 1800, STATUS_ERROR, DUTY_FAILED, CODE_IDENTITY_DENIED,
	     "Not installed within 30 min: 403 Forbidden; next try in 25 s");
	/* And it may come after all. */
	installed(&i, &f, 2000);
	assert_null(i.record.error);
	assert_next(&i, 2000 + 3600);
	says(&i, 2001, STATUS_SUCCESS, DUTY_DONE, CODE_NONE,
	     "Version " V1 ", thumbprint " T1 ", valid until 2026-02-18T10:00:00Z, read as system-assigned");
}

static void test_codes_of_a_late_one(void **state)
{
	static const struct {
		int status;
		enum error_class cls;
		int code;
	} cases[] = {
		{ 401, ERROR_PLATFORM, CODE_IDENTITY_DENIED },	  { 403, ERROR_PLATFORM, CODE_IDENTITY_DENIED },
		{ 404, ERROR_PLATFORM, CODE_IDENTITY_NOT_FOUND }, { 0, ERROR_TRANSIENT, CODE_IDENTITY_FAILED },
		{ 500, ERROR_PLATFORM, CODE_IDENTITY_FAILED },	  { 0, ERROR_SYSTEM, CODE_INTERNAL },
		{ 0, ERROR_USER, CODE_BAD_CONFIGURATION },
	};

	(void)state;
	for (size_t n = 0; n < sizeof(cases) / sizeof(cases[0]); n++) {
		_cleanup_(key_item_done) struct key_item i = { 0 };
		struct error why = words(cases[n].cls, "no");
		const struct key_clock c = at(1800);

		wish(&i, &web);
		key_fetch_failed(&i, cases[n].status, 0, &why, &c);
		i.next_boot = 0;
		says(&i, 1800, STATUS_ERROR, DUTY_FAILED, cases[n].code,
		     "Not installed within 30 min: no; it is being tried again");
	}
}

static void test_deadline_over_restarts(void **state)
{
	const struct key_goal g = { .since_usec = (int64_t)WALL };
	usec_t half = 1800 * USEC_PER_SEC;

	(void)state;
	assert_int_equal(key_goal_deadline(&g, half, BOOT, WALL), BOOT + half);
	assert_int_equal(key_goal_deadline(&g, half, BOOT, WALL + 600 * USEC_PER_SEC), BOOT + 1200 * USEC_PER_SEC);
	assert_int_equal(key_goal_deadline(&g, half, BOOT, WALL + 2 * half), BOOT);
	/* A wall clock that was set back does not lengthen it. */
	assert_int_equal(key_goal_deadline(&g, half, BOOT, WALL - USEC_PER_DAY), BOOT + half);
}

static void test_changed_settings_open_the_duty_again(void **state)
{
	_cleanup_(key_item_done) struct key_item i = { 0 };
	const struct key_found f = found(V1, T1, 1, 90);
	struct certificate_settings other = web;

	(void)state;
	wish(&i, &web);
	installed(&i, &f, 0);
	other.directory = MUTABLE("/etc/app");
	wish(&i, &other);
	assert_false(key_installed(&i));
	says(&i, 1, STATUS_TRANSITIONING, DUTY_OPEN, CODE_NONE,
	     "Being fetched; as the former settings wanted it, there is: Version " V1 ", thumbprint " T1
	     ", valid until 2026-02-18T10:00:00Z, read as system-assigned");
	says(&i, 1800, STATUS_ERROR, DUTY_FAILED, CODE_NONE,
	     "Not installed within 30 min; as the former settings wanted it, there is: Version " V1 ", thumbprint " T1
	     ", valid until 2026-02-18T10:00:00Z, read as system-assigned");
}

/* ---- when to ask again ---- */

static void test_paces(void **state)
{
	_cleanup_(key_item_done) struct key_item i = { 0 };
	const struct key_found f = found(V1, T1, 1, 90);
	struct error why = words(ERROR_PLATFORM, "no");
	struct key_clock c = at(0);

	(void)state;
	wish(&i, &web);
	/* By the vault's table. */
	key_fetch_failed(&i, 0, 0, &why, &c);
	assert_next(&i, 1);
	key_fetch_failed(&i, 429, 30 * USEC_PER_SEC, &why, &c);
	assert_in_range(i.next_boot, BOOT + 30 * USEC_PER_SEC, BOOT + 36 * USEC_PER_SEC);
	/* 404 is not in it: our own pace while nothing is there … */
	key_fetch_failed(&i, 404, 0, &why, &c);
	assert_next(&i, 10);
	key_fetch_failed(&i, 404, 0, &why, &c);
	assert_next(&i, 20);
	key_refused(&i, &why, &c);
	assert_next(&i, 40);
	for (int n = 0; n < 10; n++)
		key_fetch_failed(&i, 404, 0, &why, &c);
	assert_next(&i, 300);
	/* … but never slower than the polls. */
	c.interval = 60 * USEC_PER_SEC;
	key_fetch_failed(&i, 404, 0, &why, &c);
	assert_next(&i, 60);
	/* Installed: the next poll. */
	installed(&i, &f, 0);
	assert_next(&i, 3600);
	c = at(0);
	key_fetch_failed(&i, 404, 0, &why, &c);
	assert_next(&i, 3600);
	key_refused(&i, &why, &c);
	assert_next(&i, 3600);
	key_fetch_failed(&i, 500, 0, &why, &c);
	assert_next(&i, 1);
	/* What fails here is tried at our pace in any case. */
	key_install_failed(&i, &why, &c);
	assert_next(&i, 10);
	key_install_failed(&i, &why, &c);
	assert_next(&i, 20);
	key_kept(&i, &c);
	assert_next(&i, 3600);
	assert_null(i.record.error);
	assert_false(i.problem.msg[0]);
	key_install_failed(&i, &why, &c);
	assert_next(&i, 10);
}

static void test_jitter_is_ten_percent(void **state)
{
	_cleanup_(key_item_done) struct key_item i = { 0 };
	struct key_clock c = at(0);

	(void)state;
	wish(&i, &web);
	c.random = 0;
	key_kept(&i, &c);
	assert_next(&i, 3240);
	c.random = UINT32_MAX;
	key_kept(&i, &c);
	assert_next(&i, 3960);
}

/* What began at one moment does not go on in step. */
static void test_the_first_poll_comes_anywhere_in_half_an_interval(void **state)
{
	static const struct {
		uint32_t random;
		usec_t after;
	} cases[] = { { 0, 1809 }, { UINT32_MAX, 3591 }, { UINT32_MAX / 2, 2699 } };

	(void)state;
	for (size_t n = 0; n < ARRAY_SIZE(cases); n++) {
		_cleanup_(key_item_done) struct key_item i = { 0 };
		struct key_clock c = at(0);

		wish(&i, &web);
		i.spread = false;
		c.random = cases[n].random;
		key_kept(&i, &c);
		assert_in_range(i.next_boot, BOOT + cases[n].after * USEC_PER_SEC,
				BOOT + (cases[n].after + 1) * USEC_PER_SEC);
		c.random = 0;
		key_kept(&i, &c);
		assert_next(&i, 3240);
	}
}

static void test_a_failure_without_words_still_fails(void **state)
{
	_cleanup_(key_item_done) struct key_item i = { 0 };
	const struct error none = ERROR_INIT;
	const struct key_clock c = at(0);

	(void)state;
	wish(&i, &web);
	key_install_failed(&i, &none, &c);
	assert_true(i.problem.msg[0] && i.record.error[0]);
}

/* ---- what is told of an installed one ---- */

#define SET(until) "Version " V1 ", thumbprint " T1 ", valid until " until ", read as system-assigned"

static void test_expiry(void **state)
{
	static const struct {
		int64_t left_seconds;
		enum status_level level;
		const char *sentence;
		int64_t threshold;
	} cases[] = {
		{ 31 * 86400, STATUS_SUCCESS, SET("2025-12-21T10:00:00Z"), -1 },
		{ 30 * 86400 + 1, STATUS_SUCCESS, SET("2025-12-20T10:00:01Z"), -1 },
		{ 30 * 86400, STATUS_WARNING,
		  SET("2025-12-20T10:00:00Z") "; it expires in 30 days: renew it in the vault", 30 },
		{ 14 * 86400 + 1, STATUS_WARNING,
		  SET("2025-12-04T10:00:01Z") "; it expires in 14 days: renew it in the vault", 30 },
		{ 14 * 86400, STATUS_WARNING,
		  SET("2025-12-04T10:00:00Z") "; it expires in 14 days: renew it in the vault", 14 },
		{ 6 * 86400, STATUS_WARNING,
		  SET("2025-11-26T10:00:00Z") "; it expires in 6 days: renew it in the vault", 7 },
		{ 86400, STATUS_WARNING, SET("2025-11-21T10:00:00Z") "; it expires in 1 day: renew it in the vault",
		  1 },
		{ 86399, STATUS_ERROR, SET("2025-11-21T09:59:59Z") "; it expires within a day: renew it in the vault",
		  1 },
		{ 1, STATUS_ERROR, SET("2025-11-20T10:00:01Z") "; it expires within a day: renew it in the vault", 1 },
		{ 0, STATUS_ERROR, SET("2025-11-20T10:00:00Z") "; it has expired: renew it in the vault", 1 },
		{ -86400, STATUS_ERROR, SET("2025-11-19T10:00:00Z") "; it has expired: renew it in the vault", 1 },
	};

	(void)state;
	for (size_t n = 0; n < sizeof(cases) / sizeof(cases[0]); n++) {
		_cleanup_(key_item_done) struct key_item i = { 0 };
		struct key_found f = found(V1, T1, 10, 0);

		f.not_after = (usec_t)((int64_t)WALL + cases[n].left_seconds * (int64_t)USEC_PER_SEC);
		wish(&i, &web);
		installed(&i, &f, 0);
		says(&i, 0, cases[n].level, DUTY_DONE, CODE_NONE, cases[n].sentence);
		assert_int_equal(key_expiry_days(&section, &i.record, WALL), cases[n].threshold);
	}
}

static void test_no_warning_days_still_end_in_an_error(void **state)
{
	struct key_refresh_settings quiet = section;
	_cleanup_(key_item_done) struct key_item i = { 0 };
	struct key_found f = found(V1, T1, 10, 2);

	(void)state;
	quiet.expiry_warning_days = (struct jd_list){ 0 };
	wish(&i, &web);
	installed(&i, &f, 0);
	says_of(&i, &quiet, 0, STATUS_SUCCESS, DUTY_DONE, CODE_NONE, SET("2025-11-22T10:00:00Z"));
	says_of(&i, &quiet, 86401, STATUS_ERROR, DUTY_DONE, CODE_NONE,
		SET("2025-11-22T10:00:00Z") "; it expires within a day: renew it in the vault");
}

static void test_warnings_and_failures(void **state)
{
	_cleanup_(key_item_done) struct key_item i = { 0 };
	struct error why = words(ERROR_PLATFORM, "404 SecretNotFound");
	struct key_found f = found(V1, T1, 10, 90);
	const struct key_clock c = at(3600);

	(void)state;
	f.incomplete = true;
	wish(&i, &web);
	installed(&i, &f, 0);
	says(&i, 1, STATUS_WARNING, DUTY_DONE, CODE_NONE,
	     SET("2026-02-18T10:00:00Z") "; the chain is incomplete: some clients will not trust it; put the issuers "
					 "into the vault's "
					 "certificate");
	f.incomplete = false;
	installed(&i, &f, 0);
	key_fetch_failed(&i, 404, 0, &why, &c);
	says(&i, 3600, STATUS_WARNING, DUTY_DONE, CODE_NONE,
	     SET("2026-02-18T10:00:00Z") "; it cannot be refreshed: 404 SecretNotFound; next try in 1 h");
	/* The newest one of the vault is disabled, and so this one stays, or was taken instead. */
	installed(&i, &f, 0);
	i.newest_disabled = true;
	says(&i, 1, STATUS_WARNING, DUTY_DONE, CODE_NONE,
	     SET("2026-02-18T10:00:00Z") "; the newest version in the vault is disabled: enable it there, or add a new one");
	i.newest_disabled = false;
	says(&i, 1, STATUS_SUCCESS, DUTY_DONE, CODE_NONE, SET("2026-02-18T10:00:00Z"));
	/* An expiry that is near is the worse. */
	f.not_after = WALL + 7200 * USEC_PER_SEC;
	installed(&i, &f, 0);
	key_fetch_failed(&i, 404, 0, &why, &c);
	says(&i, 3600, STATUS_ERROR, DUTY_DONE, CODE_NONE,
	     SET("2025-11-20T12:00:00Z") "; it expires within a day: renew it in the vault; it cannot be refreshed: "
					 "404 SecretNotFound; next try in 1 h");
}

/* ---- records ---- */

static void test_record_round_trip(void **state)
{
	_cleanup_buf_ struct buf text = BUF_INIT(4096);
	_cleanup_(key_item_done) struct key_item i = { 0 };
	_cleanup_(key_record_done) struct key_record r = { 0 };
	struct key_found f = found(V1, T1, 10, 90);
	struct error why = words(ERROR_SYSTEM, "disk");
	const struct key_clock c = at(1);

	(void)state;
	f.incomplete = true;
	strcpy(f.previous, V2);
	wish(&i, &web);
	assert_int_equal(str_set(&i.record.salt, "0123"), 0);
	installed(&i, &f, 0);
	key_install_failed(&i, &why, &c);
	assert_int_equal(key_record_encode(&i.record, &text), 0);
	assert_int_equal(key_record_decode(buf_str(&text), text.len, &r, NULL), 0);
	key_record_done(&i.record);
	i.record = r;
	r = (struct key_record){ 0 };
	assert_true(key_installed(&i));
	assert_int_equal(key_judge(&i, &f, false, true, WALL, &why), KEY_KEEP);
	assert_string_equal(i.record.error, "disk");
	assert_string_equal(i.record.identity, "system-assigned");
	assert_string_equal(i.record.previous, V2);
	assert_string_equal(i.record.salt, "0123"); /* over installs */
	assert_true(i.record.incomplete);
	assert_int_equal(i.record.installed_usec, WALL);
}

static void test_damaged_records(void **state)
{
	static const char *const texts[] = { "", "[]", "{", "{\"version\":1}", "{\"notAfterUsec\":-1}" };
	struct key_record r = { 0 };
	struct key_goal g = { 0 };

	(void)state;
	for (size_t n = 0; n < sizeof(texts) / sizeof(texts[0]); n++)
		assert_true(key_record_decode(texts[n], strlen(texts[n]), &r, NULL) < 0);
	assert_null(r.version);
	assert_true(key_goal_decode("{\"key\":\"a\"}", 11, &g, NULL) < 0);
	assert_null(g.key);
	/* Of a later program, and one where nothing was installed yet. */
	assert_int_equal(key_record_decode("{\"error\":\"x\",\"more\":{}}", 23, &r, NULL), 0);
	assert_null(r.version);
	key_record_done(&r);
}

static void test_goal_round_trip(void **state)
{
	_cleanup_buf_ struct buf text = BUF_INIT(4096);
	_cleanup_(key_goal_done) struct key_goal r = { 0 };
	const struct key_goal g = { .key = MUTABLE("k"), .since_usec = 5 };

	(void)state;
	assert_int_equal(key_goal_encode(&g, &text), 0);
	assert_int_equal(key_goal_decode(buf_str(&text), text.len, &r, NULL), 0);
	assert_string_equal(r.key, "k");
	assert_int_equal(r.since_usec, 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_verdicts),
		cmocka_unit_test(test_created_tells_before_the_dates_do),
		cmocka_unit_test(test_versions_become_names),
		cmocka_unit_test(test_plain_secrets_have_no_dates),
		cmocka_unit_test(test_shape_and_origin),
		cmocka_unit_test(test_passwords_shape),
		cmocka_unit_test(test_first_install_in_time),
		cmocka_unit_test(test_codes_of_a_late_one),
		cmocka_unit_test(test_deadline_over_restarts),
		cmocka_unit_test(test_changed_settings_open_the_duty_again),
		cmocka_unit_test(test_paces),
		cmocka_unit_test(test_jitter_is_ten_percent),
		cmocka_unit_test(test_the_first_poll_comes_anywhere_in_half_an_interval),
		cmocka_unit_test(test_a_failure_without_words_still_fails),
		cmocka_unit_test(test_expiry),
		cmocka_unit_test(test_no_warning_days_still_end_in_an_error),
		cmocka_unit_test(test_warnings_and_failures),
		cmocka_unit_test(test_record_round_trip),
		cmocka_unit_test(test_damaged_records),
		cmocka_unit_test(test_goal_round_trip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
