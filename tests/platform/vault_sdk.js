// Drives the official Key Vault client as a program on a VM would: vault_sdk.js VAULT-PORT IMDS-PORT < calls > outcomes.
// Both are JSON lists; a call is {call, name, version, pageSize, options} and is made after the one before it has ended. The
// names of vaults lead to loopback; everything else is as in life, the check of the challenge's resource too.
"use strict";
const http = require("http");
const https = require("https");
globalThis.crypto ??= require("crypto").webcrypto; // node 18, Debian 12's, has it only there
const { SecretClient } = require("@azure/keyvault-secrets");

const [vaultPort, imdsPort] = process.argv.slice(2);
const asked = [];

function managedIdentity(resource) {
	const path = `/metadata/identity/oauth2/token?api-version=2018-02-01&resource=${encodeURIComponent(resource)}`;
	return new Promise((resolve, reject) => {
		http.get({ host: "127.0.0.1", port: imdsPort, path, headers: { Metadata: "true", Host: "169.254.169.254" } }, (answer) => {
			let text = "";
			answer.on("data", (piece) => (text += piece));
			answer.on("end", () => (answer.statusCode === 200 ? resolve(JSON.parse(text)) : reject(new Error(text))));
		}).on("error", reject);
	});
}

const credential = {
	async getToken(scopes, options) {
		const scope = [scopes].flat()[0];
		asked.push({ scope, tenant: (options && options.tenantId) || null });
		const token = await managedIdentity(scope.replace(/\/\.default$/, ""));
		return { token: token.access_token, expiresOnTimestamp: Number(token.expires_on) * 1000 };
	},
};

const agent = new https.Agent({
	keepAlive: true,
	lookup: (host, options, done) => (options.all ? done(null, [{ address: "127.0.0.1", family: 4 }]) : done(null, "127.0.0.1", 4)),
});
const toLoopback = {
	name: "toLoopback",
	sendRequest(request, next) {
		request.agent = agent;
		return next(request);
	},
};

const clients = new Map();
function clientOf(host, serviceVersion) {
	const key = host + serviceVersion;
	if (!clients.has(key))
		clients.set(key, new SecretClient(`https://${host}:${vaultPort}`, credential, {
			...(serviceVersion ? { serviceVersion } : {}),
			additionalPolicies: [{ policy: toLoopback, position: "perRetry" }],
		}));
	return clients.get(key);
}

async function make(call) {
	const client = clientOf(call.host || "shop.vault.azure.net", call.serviceVersion || "");
	if (call.call === "get")
		return client.getSecret(call.name, call.version ? { version: call.version } : {});
	const pages = [];
	for await (const page of client.listPropertiesOfSecretVersions(call.name).byPage(call.pageSize ? { maxPageSize: call.pageSize } : {}))
		pages.push(page);
	return pages;
}

async function main() {
	let text = "";
	for await (const piece of process.stdin) text += piece;
	const outcomes = [];
	for (const call of JSON.parse(text)) {
		const started = Date.now();
		const outcome = await make(call).then(
			(answer) => ({ answer }),
			(error) => ({ error: { name: error.name, code: error.code, status: error.statusCode, message: error.message,
				inner: error.details && error.details.error && error.details.error.innererror } }));
		outcomes.push({ ...outcome, took: (Date.now() - started) / 1000 });
	}
	process.stdout.write(JSON.stringify({ outcomes, asked }));
	agent.destroy();
}

main();
