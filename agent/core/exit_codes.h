/*
 * Every number a person or the platform may meet: exit codes of our commands and codes of the ErrorClarification
 * substatus, in one table with their meaning. Positive codes are the customer's to mend ("VM has reported a user
 * failure"), negative ones the platform's or ours; numbers of Custom Script v2 keep their meaning.
 */
#pragma once

#include <stddef.h>

enum exit_code {
	EXIT_OK = 0,
	EXIT_FAILED = 1,	      /* see the message */
	EXIT_USAGE = 2,
	EXIT_INVALID_SETTINGS = 3,    /* validate: the document has errors */
	EXIT_NOT_RUNNING = 4,	      /* the daemon does not answer */
	EXIT_NOT_PERMITTED = 5,
	EXIT_ATTENTION = 6,	      /* certs check: usable, but not for long or not as it should be */
	EXIT_TROUBLE = 7,	      /* doctor: something does not work */
	EXIT_UNSUPPORTED_SYSTEM = 51, /* convention of the platform */
	EXIT_MISSING_DEPENDENCY = 52, /* convention of the platform */
};

enum status_code {
	CODE_NONE = 0,
	CODE_STORAGE_BAD_REQUEST = -41,
	CODE_DOWNLOAD_UNKNOWN = -40,
	CODE_IMDS_ERROR = -30,
	CODE_BAD_CONFIGURATION = -21,
	CODE_NO_CERTIFICATE = -20,
	CODE_INTERNAL = -1,
	CODE_EXECUTION_UNKNOWN = 1,
	CODE_SCRIPT_EXIT = 2,
	CODE_INTERRUPTED = 3,
	CODE_COMMAND_TWICE = 20,
	CODE_URIS_TWICE = 22,
	CODE_NO_COMMAND = 23,
	CODE_BAD_URI = 25,
	CODE_KEY_WITH_IDENTITY = 26,
	CODE_TWO_IDENTITIES = 27,
	CODE_SCRIPT_TWICE = 28,
	CODE_COMMAND_AND_SCRIPT = 29,
	CODE_HALF_CREDENTIALS = 30,
	CODE_MAKE_DIRECTORY = 50,
	CODE_ACCESS_DENIED = 52,
	CODE_NOT_FOUND = 53,
	CODE_DOWNLOAD_FAILED = 54,
	CODE_BODY_FAILED = 55,
	CODE_TIMEOUT = 56,
	CODE_IDENTITY_NOT_FOUND = 70,
	CODE_IDENTITY_DENIED = 71,
	CODE_IDENTITY_FAILED = 72,
	CODE_POLICY_REFUSED = 80,
	CODE_POLICY_BROKEN = 81,
};

struct code_meaning {
	int code;
	const char *name;
	const char *meaning;
};
/* Both end with a NULL name. */
extern const struct code_meaning exit_code_table[];
extern const struct code_meaning status_code_table[];
const char *status_code_meaning(int code); /* "" when unknown */
