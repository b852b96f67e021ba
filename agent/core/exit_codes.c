/* The numbers and what they mean. */
#include "agent/core/exit_codes.h"

const struct code_meaning exit_code_table[] = {
	{ EXIT_OK, "ok", "done" },
	{ EXIT_FAILED, "failed", "it failed; the first line says what, on what, and what to do" },
	{ EXIT_USAGE, "usage", "wrong arguments" },
	{ EXIT_INVALID_SETTINGS, "invalidSettings", "the settings document has errors" },
	{ EXIT_NOT_RUNNING, "notRunning", "the service does not answer" },
	{ EXIT_NOT_PERMITTED, "notPermitted", "only root may ask this" },
	{ EXIT_ATTENTION, "attention", "certs check, doctor: everything is usable, but something needs attention" },
	{ EXIT_TROUBLE, "trouble", "doctor: something does not work" },
	{ EXIT_UNSUPPORTED_SYSTEM, "unsupportedSystem", "this system cannot run the agent" },
	{ EXIT_MISSING_DEPENDENCY, "missingDependency", "a library or program that the agent needs is missing" },
	{ 0, NULL, NULL },
};

const struct code_meaning status_code_table[] = {
	{ CODE_STORAGE_BAD_REQUEST, "storageBadRequest", "the storage service refused the request as malformed" },
	{ CODE_DOWNLOAD_UNKNOWN, "downloadUnknown", "a download failed for an unknown reason" },
	{ CODE_IMDS_ERROR, "imdsError", "the instance metadata service failed" },
	{ CODE_BAD_CONFIGURATION, "badConfiguration", "the settings are not valid" },
	{ CODE_NO_CERTIFICATE, "noCertificate", "the certificate of the protected settings is missing" },
	{ CODE_INTERNAL, "internal", "the agent or this machine failed" },
	{ CODE_EXECUTION_UNKNOWN, "executionUnknown", "the script could not be run for an unknown reason" },
	{ CODE_SCRIPT_EXIT, "scriptExit", "the script ended with a failure" },
	{ CODE_INTERRUPTED, "interrupted", "the script was interrupted by a reboot or a stop" },
	{ CODE_COMMAND_TWICE, "commandTwice", "commandToExecute is in public and in protected settings" },
	{ CODE_URIS_TWICE, "urisTwice", "fileUris are in public and in protected settings" },
	{ CODE_NO_COMMAND, "noCommand", "commandToExecute is missing" },
	{ CODE_BAD_URI, "badUri", "a URI is not valid" },
	{ CODE_KEY_WITH_IDENTITY, "keyWithIdentity", "a storage key and a managed identity exclude each other" },
	{ CODE_TWO_IDENTITIES, "twoIdentities", "only one of clientId and objectId may be given" },
	{ CODE_SCRIPT_TWICE, "scriptTwice", "script is in public and in protected settings" },
	{ CODE_COMMAND_AND_SCRIPT, "commandAndScript", "commandToExecute and script exclude each other" },
	{ CODE_HALF_CREDENTIALS, "halfCredentials", "storageAccountName and storageAccountKey belong together" },
	{ CODE_MAKE_DIRECTORY, "makeDirectory", "a directory for the script could not be made" },
	{ CODE_ACCESS_DENIED, "accessDenied", "the download was refused" },
	{ CODE_NOT_FOUND, "notFound", "the file to download does not exist" },
	{ CODE_DOWNLOAD_FAILED, "downloadFailed", "the download failed" },
	{ CODE_BODY_FAILED, "bodyFailed", "the download broke off" },
	{ CODE_TIMEOUT, "timeout", "it took longer than its limit" },
	{ CODE_IDENTITY_NOT_FOUND, "identityNotFound", "the managed identity could not read the file: not found" },
	{ CODE_IDENTITY_DENIED, "identityDenied", "the managed identity could not read the file: denied" },
	{ CODE_IDENTITY_FAILED, "identityFailed", "the managed identity could not read the file" },
	{ CODE_POLICY_REFUSED, "policyRefused", "the policy of this machine does not allow the script" },
	{ CODE_POLICY_BROKEN, "policyBroken", "the policy of this machine could not be read" },
	{ 0, NULL, NULL },
};

const char *status_code_meaning(int code)
{
	for (const struct code_meaning *m = status_code_table; m->name; m++)
		if (m->code == code)
			return m->meaning;
	return "";
}
