/* Sequence numbers, settings files in every form the agent writes, protected settings, status files. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/cms.h>

#include "agent/azure/goal_state.h"
#include "agent/azure/status_file.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/base64.h"
#include "tests/support/certificates.h"

#define THUMB       "0123456789ABCDEF0123456789ABCDEF01234567"
#define THUMB_LOWER "0123456789abcdef0123456789abcdef01234567"
#define SETTINGS(s) "{\"runtimeSettings\": [{\"handlerSettings\": {" s "}}]}"

/* Every test works in a new directory. */
static int setup(void **state)
{
	const char *base = getenv("EK_TEST_BINARY_DIR");
	char *dir = str_format("%s/test-goal-state-XXXXXX", base ? base : "/tmp");

	*state = dir;
	return dir && mkdtemp(dir) && chdir(dir) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
	int r = chdir("/") < 0 ? -1 : fs_remove_tree(*state, NULL);

	free(*state);
	return r;
}

static void put_at(const char *name, const char *text, time_t seconds, long nanoseconds)
{
	const struct timespec times[2] = { { seconds, nanoseconds }, { seconds, nanoseconds } };

	assert_int_equal(fs_write(name, text, strlen(text), 0644, FS_REPLACE, NULL), 0);
	assert_int_equal(utimensat(AT_FDCWD, name, times, 0), 0);
}

static void expect_sequence(const char *from_environment, const char *wanted)
{
	char sequence[SEQUENCE_MAX] = "";
	struct error err = ERROR_INIT;

	if (goal_state_sequence(from_environment, ".", sequence, &err) < 0)
		fail_msg("%s", err.msg);
	assert_string_equal(sequence, wanted);
}

static void test_sequence_of_environment(void **state)
{
	static const char *const bad[] = {
		"-1", "3a", " 3", "settings", "99999999999999999999999", "18446744073709551616"
	};

	(void)state;
	put_at("7.settings", "", 1000, 0);
	expect_sequence("0", "0");
	expect_sequence("12", "12");
	expect_sequence("18446744073709551615", "18446744073709551615");
	expect_sequence("", "7");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char sequence[SEQUENCE_MAX] = "as before";
		struct error err;

		assert_int_equal(goal_state_sequence(bad[i], ".", sequence, &err), -EINVAL);
		assert_non_null(strstr(err.msg, "ConfigSequenceNumber"));
		assert_non_null(strstr(err.msg, bad[i]));
		assert_string_equal(sequence, "as before");
	}
}

static void test_sequence_of_newest(void **state)
{
	char sequence[SEQUENCE_MAX] = "";
	struct error err;

	(void)state;
	assert_int_equal(goal_state_sequence(NULL, ".", sequence, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "ConfigSequenceNumber"));
	assert_int_equal(goal_state_sequence(NULL, "./nowhere", sequence, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "./nowhere"));

	/* What is no settings file of ours, all of it newer. */
	put_at("one.9.settings", "", 9000, 0);
	put_at("HandlerState", "", 9000, 0);
	put_at("9.settings.bak", "", 9000, 0);
	put_at(".settings", "", 9000, 0);
	put_at("-3.settings", "", 9000, 0);
	put_at("99999999999999999999999999.settings", "", 9000, 0);
	assert_int_equal(mkdir("8.settings", 0755), 0);
	assert_int_equal(goal_state_sequence(NULL, ".", sequence, &err), -ENOENT);

	put_at("5.settings", "", 1000, 0);
	expect_sequence(NULL, "5");
	put_at("0.settings", "", 2000, 0); /* removed and added again */
	expect_sequence(NULL, "0");
	put_at("1.settings", "", 2000, 0);
	expect_sequence(NULL, "1");
	put_at("10.settings", "", 2000, 0); /* as numbers, not as texts */
	put_at("9.settings", "", 2000, 0);
	expect_sequence(NULL, "10");
	put_at("2.settings", "", 2000, 1);
	expect_sequence(NULL, "2");
}

static void test_settings(void **state)
{
	static const struct {
		const char *text, *public_text, *blob, *thumbprint;
		bool absent;
	} cases[] = {
		{ "", .absent = true },
		{ " \n", .absent = true },
		{ "{\"runtimeSettings\": [{}]}" },
		{ "{\"runtimeSettings\": [{\"handlerSettings\": null}]}" },
		{ SETTINGS(
			"\"publicSettings\": null, \"protectedSettings\": null, \"protectedSettingsCertThumbprint\": "
			"null") },
		{ SETTINGS("\"publicSettings\": {}"), "{}" },
		{ SETTINGS("\"publicSettings\": {\"drain\": {}}, \"protectedSettings\": null"), "{\"drain\":{}}" },
		{ SETTINGS("\"publicSettings\": \"{\\\"drain\\\": {}}\""), "{\"drain\": {}}" },
		{ SETTINGS("\"publicSettings\": \"\"") },
		{ SETTINGS("\"publicSettings\": \"null\"") },
		{ SETTINGS("\"protectedSettings\": \"\", \"protectedSettingsCertThumbprint\": \"\"") },
		{ SETTINGS("\"publicSettings\": {}, \"protectedSettings\": \"TUlJ\", "
			   "\"protectedSettingsCertThumbprint\": \"" THUMB "\""),
		  "{}", "TUlJ", THUMB },
		{ SETTINGS("\"protectedSettings\": \"TUlJ\", \"protectedSettingsCertThumbprint\": \"" THUMB_LOWER "\""),
		  NULL, "TUlJ", THUMB },
		{ SETTINGS("\"protectedSettingsCertThumbprint\": \"left over\"") },
		{ "{\"extra\": 1, \"runtimeSettings\": [{\"more\": 2, \"handlerSettings\": {\"publicSettings\": "
		  "{\"a\": "
		  "1}}}]}",
		  "{\"a\":1}" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct goal_settings g = { .absent = false };
		struct error err = ERROR_INIT;

		if (goal_settings_parse(cases[i].text, strlen(cases[i].text), "/c/3.settings", &g, &err) < 0)
			fail_msg("case %zu: %s", i, err.msg);
		assert_int_equal(g.absent, cases[i].absent);
		assert_true(str_equal(g.public_text, cases[i].public_text));
		assert_true(str_equal(g.protected_blob, cases[i].blob));
		assert_true(str_equal(g.thumbprint, cases[i].thumbprint));
		goal_settings_done(&g);
	}
}

static void test_settings_broken(void **state)
{
	static const struct {
		const char *text;
		int code;
		const char *says;
	} cases[] = {
		{ "{", -EBADMSG, "the text ends" },
		{ "<settings/>", -EBADMSG, "expected" },
		{ "[]", -EINVAL, "expected" },
		{ "null", -EINVAL, "expected an object, got null" },
		{ "{}", -EINVAL, "wrong runtimeSettings count. expected:1, got:0" },
		{ "{\"runtimeSettings\": []}", -EINVAL, "wrong runtimeSettings count. expected:1, got:0" },
		{ "{\"runtimeSettings\": [{}, {}]}", -EINVAL, "wrong runtimeSettings count. expected:1, got:2" },
		{ "{\"runtimeSettings\": [null]}", -EINVAL, "runtimeSettings[0]" },
		{ "{\"runtimeSettings\": {}}", -EINVAL, "runtimeSettings" },
		{ SETTINGS("\"publicSettings\": []"), -EINVAL, "publicSettings: expected an object" },
		{ SETTINGS("\"publicSettings\": 5"), -EINVAL, "publicSettings: expected an object" },
		{ SETTINGS("\"publicSettings\": \"{\\\"a\\\":\""), -EBADMSG, "publicSettings" },
		{ SETTINGS("\"publicSettings\": \"[]\""), -EINVAL, "publicSettings" },
		{ SETTINGS("\"protectedSettings\": {}"), -EINVAL, "protectedSettings" },
		{ SETTINGS("\"protectedSettings\": \"TUlJ\""), -EINVAL, "without protectedSettingsCertThumbprint" },
		{ SETTINGS(
			  "\"protectedSettings\": \"TUlJ\", \"protectedSettingsCertThumbprint\": \"../../etc/passwd\""),
		  -EINVAL, "40 hexadecimal digits" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct goal_settings g = { .absent = false };
		struct error err = ERROR_INIT;

		assert_int_equal(goal_settings_parse(cases[i].text, strlen(cases[i].text), "/c/3.settings", &g, &err),
				 cases[i].code);
		if (!strstr(err.msg, "/c/3.settings") || !strstr(err.msg, cases[i].says))
			fail_msg("case %zu: %s", i, err.msg);
		assert_null(g.public_text);
	}
}

static void test_settings_too_large(void **state)
{
	size_t size = LIMIT_SETTINGS_FILE + 1;
	_cleanup_free_ char *big = malloc(size);
	struct goal_settings g;
	struct error err;

	(void)state;
	memset(big, '[', size);
	assert_int_equal(goal_settings_parse(big, size, "/c/3.settings", &g, &err), -E2BIG);
	assert_non_null(strstr(err.msg, "/c/3.settings"));
	memset(big, ' ', size);
	memcpy(big, "{\"runtimeSettings\": [{}]}", 25);
	assert_int_equal(goal_settings_parse(big, size, "/c/3.settings", &g, &err), -E2BIG);
	assert_int_equal(goal_settings_parse(big, size - 1, "/c/3.settings", &g, &err), 0);
	assert_false(g.absent);
	goal_settings_done(&g);
}

/* What the platform does: CMS in DER for the certificate, in base64. */
static char *encrypt(X509 *cert, const char *text)
{
	STACK_OF(X509) *certs = sk_X509_new_null();
	BIO *in = BIO_new_mem_buf(text, -1), *bio = BIO_new(BIO_s_mem());
	struct buf der = BUF_INIT(10000), out = BUF_INIT(20000);
	CMS_ContentInfo *cms;

	sk_X509_push(certs, cert);
	cms = CMS_encrypt(certs, in, EVP_des_ede3_cbc(), CMS_BINARY);
	take_bio(bio, i2d_CMS_bio(bio, cms), &der);
	assert_int_equal(base64_encode(der.data, der.len, &out), 0);
	CMS_ContentInfo_free(cms);
	sk_X509_free(certs);
	BIO_free(in);
	buf_done(&der);
	return buf_take(&out);
}

static void test_decrypt(void **state)
{
	EVP_PKEY *key = make_rsa_key(), *other_key = make_rsa_key();
	X509 *cert = make_certificate(key, "CRP", key, "CRP"),
	     *other = make_certificate(other_key, "CRP", other_key, "CRP");
	_cleanup_buf_ struct buf key_pem = BUF_SECRET_INIT(10000), cert_pem = BUF_INIT(10000);
	_cleanup_free_ char *blob = encrypt(cert, "{\"secrets\":{}}"), *foreign = encrypt(other, "{}");
	char thumb[] = THUMB, not_base64[] = "?";
	struct goal_settings g = { .protected_blob = blob, .thumbprint = thumb };
	_cleanup_secret_ struct secret plain = { 0 };
	struct error err = ERROR_INIT;

	(void)state;
	put_key(&key_pem, key);
	put_certificate(&cert_pem, cert);

	assert_int_equal(goal_settings_decrypt(&g, ".", &plain, &err), -ENOENT);
	assert_int_equal(err.cls, ERROR_TRANSIENT);
	assert_non_null(strstr(err.msg, "./" THUMB ".crt"));
	put_at(THUMB ".crt", cert_pem.data, 1, 0);
	assert_int_equal(goal_settings_decrypt(&g, ".", &plain, &err), -ENOENT);
	assert_int_equal(err.cls, ERROR_TRANSIENT);
	assert_non_null(strstr(err.msg, "./" THUMB ".prv"));

	put_at(THUMB ".prv", "", 1, 0);
	assert_true(goal_settings_decrypt(&g, ".", &plain, &err) < 0);
	assert_int_equal(err.cls, ERROR_TRANSIENT);
	assert_non_null(strstr(err.msg, "is empty"));
	put_at(THUMB ".prv", "-----BEGIN PRIVATE KEY-----\nMIIE", 1, 0);
	assert_int_equal(goal_settings_decrypt(&g, ".", &plain, &err), -EINVAL);
	assert_int_equal(err.cls, ERROR_TRANSIENT);
	assert_null(plain.data);

	put_at(THUMB ".prv", key_pem.data, 1, 0);
	if (goal_settings_decrypt(&g, ".", &plain, &err) < 0)
		fail_msg("%s", err.msg);
	assert_string_equal(plain.data, "{\"secrets\":{}}");
	assert_int_equal(plain.len, strlen(plain.data));

	g.protected_blob = foreign;
	assert_int_equal(goal_settings_decrypt(&g, ".", &plain, &err), -EKEYREJECTED);
	assert_int_equal(err.cls, ERROR_TRANSIENT);
	assert_non_null(strstr(err.msg, "./" THUMB ".crt"));
	g.protected_blob = not_base64;
	assert_int_equal(goal_settings_decrypt(&g, ".", &plain, &err), -EBADMSG);
	assert_int_equal(err.cls, ERROR_PLATFORM);
	assert_string_equal(plain.data, "{\"secrets\":{}}"); /* as before */

	EVP_PKEY_free(key);
	EVP_PKEY_free(other_key);
	X509_free(cert);
	X509_free(other);
}

static void expect_content(const char *path, const char *text)
{
	_cleanup_buf_ struct buf b = BUF_INIT(1000);
	struct stat st;

	assert_int_equal(fs_read(path, 1000, &b, NULL), 0);
	assert_string_equal(buf_str(&b), text);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
}

static void test_status_file(void **state)
{
	static char big[LIMIT_STATUS_FILE + 1];
	struct error err;

	(void)state;
	assert_int_equal(status_file_write("./status", "3", "[]", 2, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "./status/3.status"));
	assert_false(fs_exists("./status"));
	assert_int_equal(mkdir("status", 0700), 0);
	assert_int_equal(status_file_write("status", "3", "first", 5, &err), 0);
	expect_content("status/3.status", "first");
	assert_int_equal(status_file_write("status", "3", "third", 5, &err), 0);
	expect_content("status/3.status", "third");
	assert_int_equal(status_file_write("status", "../3", "x", 1, &err), -EINVAL);
	assert_int_equal(status_file_write("status", "", "x", 1, &err), -EINVAL);
	assert_int_equal(status_file_write("status", "3", big, sizeof(big), &err), -EFBIG);
	expect_content("status/3.status", "third");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_sequence_of_environment, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sequence_of_newest, setup, teardown),
		cmocka_unit_test_setup_teardown(test_settings, setup, teardown),
		cmocka_unit_test_setup_teardown(test_settings_broken, setup, teardown),
		cmocka_unit_test_setup_teardown(test_settings_too_large, setup, teardown),
		cmocka_unit_test_setup_teardown(test_decrypt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_status_file, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
