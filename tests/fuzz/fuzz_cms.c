/* CMS with a key of its own: nothing appended on failure. The input is DER, so that the fuzzer gets behind base64. */
#include <stdint.h>
#include <stdlib.h>

#include "agent/codec/base64.h"
#include "agent/codec/cms.h"

/* Made for this file; they open nothing but the corpus. */
static const char certificate[] = "-----BEGIN CERTIFICATE-----\n"
				  "MIIDVTCCAj2gAwIBAgIUbbsPipshjNoIgctkoQzNdM1483EwDQYJKoZIhvcNAQEL\n"
				  "BQAwOTE3MDUGCgmSJomT8ixkARkWJ1dpbmRvd3MgQXp1cmUgQ1JQIENlcnRpZmlj\n"
				  "YXRlIEdlbmVyYXRvcjAgFw0yNjExMjAwOTM2MDJaGA8yMTI2MTAyNzA5MzYwMlow\n"
				  "OTE3MDUGCgmSJomT8ixkARkWJ1dpbmRvd3MgQXp1cmUgQ1JQIENlcnRpZmljYXRl\n"
				  "IEdlbmVyYXRvcjCCASIwDQYJKoZIhvcNAQEBBQADggEPADCCAQoCggEBAJLh3g5T\n"
				  "WniR3cgWucwa1q1YYGHHaylgkakpE27gEDgC8x6sPo2IfXGD+dchOc98XocuB6t/\n"
				  "zlDOh/K1ITRS7V8On+nlDDP3iul+MUFAiiBZyPYu4B/iYIKenaCKqcv6uQb62eKS\n"
				  "9ER0x42pqIVMl2Pj8XQplD60ygrWsMTaqtRhBbJC8VyJ74Dy0aDSwXKTq/lxSVpH\n"
				  "rC/NkW4eJkIcT0xj5n4ToIyOHFub4InwVo2tc2tweQWFC3ooLpTX9hCjIqNlXybC\n"
				  "LLzBG/zdg4wTH/9kA1K0pWHf2AyHm24UiPp/t34wvVffIfwcJu43hvDbUffYYduV\n"
				  "/Wsh9W2Fg4qNNcMCAwEAAaNTMFEwHQYDVR0OBBYEFGMDgxfVXh2RkGdG8EJBnB5D\n"
				  "js09MB8GA1UdIwQYMBaAFGMDgxfVXh2RkGdG8EJBnB5Djs09MA8GA1UdEwEB/wQF\n"
				  "MAMBAf8wDQYJKoZIhvcNAQELBQADggEBADOZUo5ug91owSQc3mu4ncpNZEPgwjKU\n"
				  "6LUEnBYiKvoUP+kZuqgTI0eURtK9X+siVArSv0cHhOGnn6k9aieFVkI+7aBxXrro\n"
				  "zqq/2pAUVz9n7o2Pq6AMCXXEAWuNA2EL3TnPwG8Rhnau7tdoMHj7UG/4B5GqBXjR\n"
				  "nzsGxw/pIezN3c6tI/CJvHXXe2NdT+feE6iO3WjlrGwJBA9aZulgCqEK/kfI08ZN\n"
				  "5ohbDzHU/KtaJ3BpO72akAzLNMyhuGZpR9qhxaHvTOxWHSTNOLu1P+XWUXGmhqYI\n"
				  "8BgdFuXPe2Bn+Q6igDh9r3wjBKjiyJjlVshEb9Ez8prv+E5lubpjQnQ=\n"
				  "-----END CERTIFICATE-----\n";
static const char key[] = "-----BEGIN PRIVATE KEY-----\n"
			  "MIIEvAIBADANBgkqhkiG9w0BAQEFAASCBKYwggSiAgEAAoIBAQCS4d4OU1p4kd3I\n"
			  "FrnMGtatWGBhx2spYJGpKRNu4BA4AvMerD6NiH1xg/nXITnPfF6HLgerf85Qzofy\n"
			  "tSE0Uu1fDp/p5Qwz94rpfjFBQIogWcj2LuAf4mCCnp2giqnL+rkG+tnikvREdMeN\n"
			  "qaiFTJdj4/F0KZQ+tMoK1rDE2qrUYQWyQvFcie+A8tGg0sFyk6v5cUlaR6wvzZFu\n"
			  "HiZCHE9MY+Z+E6CMjhxbm+CJ8FaNrXNrcHkFhQt6KC6U1/YQoyKjZV8mwiy8wRv8\n"
			  "3YOMEx//ZANStKVh39gMh5tuFIj6f7d+ML1X3yH8HCbuN4bw21H32GHblf1rIfVt\n"
			  "hYOKjTXDAgMBAAECggEANM4g79OFnf0K16lb6IXpke5I0D5KR1jhZQhQZTcGfayJ\n"
			  "zQgtgOKF/q5svqvCRda3gS/KMBzFhoWJmHcH1fDOR7NRSFxBE9m1xhXJDWVvgwvk\n"
			  "VKUrjCrteWge0R2ox51+sYSzmmIskQPOzh4laK7NamsDXjiohBao4FaovEzEx48C\n"
			  "Zk1W9mvbkPYMcFl99VVU9yN2ZJKJ24IAGxPD4wgCGMIRJYtp1i+OZFK0OFRBQ+Jb\n"
			  "ZR5ZMyOaWVFx8vrq9mXmnJ6wq64XQpsjndn8q3ka/g55ziaxF4NPVu6Iebhr66Db\n"
			  "AWXXYYXj7LerIaoofav/M/EjrL8KZxqSiTk/tlZukQKBgQDIQgMPIFoCXqm/2zd0\n"
			  "kdZsoWcHiNuggzGBCWVDUwEjQNubJNBXgRwedVe74qlFQEwxPYKxwGIekgX+lmzX\n"
			  "3qYPyzCLxceiSmsfCjk1k9CMfJEEcKVrHJ52I8hwcYyN5HGh6LYQKNndLgB+3BUs\n"
			  "9vGxZWKC4W5tQ7ix1/uWr3nkaQKBgQC7xGp2YHJxyq6Jg+pES83KzqczxMlMfGa9\n"
			  "pEDxjNnyEdqy21kszIqHzfsfJ7kuOXe8a8cM9J1wQnXAHnC0EcCbg9KAXPB4HrYZ\n"
			  "4eybtPC+ZSKCno7h+dhWVbptGYg2f2iTUNKD0KmSGFWHAPa0EvaD1XEmEiBx07cW\n"
			  "BE2Z5FeTSwKBgCQYqf5/AVpt/8ECXaOYagMYsL6N77CmFTVCIUuaWZkmJq93Wkp7\n"
			  "jjr7Qb4vI/3EkjdJ9BXgLI+AGK6EJMhgbKRqJqz7EHnzWg21RQygQTYhee5H87kz\n"
			  "5mg7GPUTspcc91KM5MxS4LpagWJcf0CknnowYSpgQgxV6aO836+Qn7MJAoGAf1Qw\n"
			  "xdmdgiDpvwMfp/SntzHwHKEDyMRLf6qVB7h2SztkTQmGLWT/RByggH4Vi40Y70M/\n"
			  "FkADS48l/oQl9VZcgJkh9D4SK8LXxjF4nBZVcyduAZm4VvFwjQtRgo5f2mUH625R\n"
			  "c2Xat+GcjhJPOcnqNXhWZHTCX64sZ9e/L+6ynIUCgYBzchKETcybPtfJGdw4PutE\n"
			  "6168VpdnCYS3lfyQsaNMZkbiHnH+opM0WxhR9Yh7zed/OAzEy9QutUxgzdIhR4ar\n"
			  "MBgiCulhloq7kZnQ9eVtuRRymaZGg2Y3QKrtjEprdmApuRlmjB4/DaNcg1BFPtDY\n"
			  "VAHCD/yO0hdDejtcewPRgA==\n"
			  "-----END PRIVATE KEY-----\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_buf_ struct buf text = BUF_INIT(2 << 20), out = BUF_SECRET_INIT(65536);
	struct error err;

	if (base64_encode(data, size, &text) < 0)
		return 0;
	if (cms_decrypt(buf_str(&text), text.len, certificate, key, &out, &err) < 0 && out.len)
		abort();
	return 0;
}
