/* Every limit of the program that is not a setting, in one place. Sizes in bytes unless the name says otherwise. */
#pragma once

/* Documents */
#define LIMIT_SETTINGS		  (1024UL * 1024) /* one settings document */
#define LIMIT_SETTINGS_DEPTH	  8
#define LIMIT_JSON_DEPTH	  16 /* platform documents */
#define LIMIT_JSON_VALUES	  65536 /* json-c needs about 260 bytes for each */
#define LIMIT_SETTINGS_VALUES	  40000 /* 500 certificates with every member; an object counts as three */
#define LIMIT_ENVIRONMENT_FILE	  (64UL * 1024) /* HandlerEnvironment.json */
#define LIMIT_EVENTS_DOCUMENT	  (256UL * 1024)
#define LIMIT_EVENTS		  100
#define LIMIT_EVENT_TEXT	  256 /* an event's id, type, source, a resource's name */
#define LIMIT_EVENT_RESOURCES	  1000
#define LIMIT_EVENT_DESCRIPTION	  4096
#define LIMIT_IMDS_INSTANCE	  (256UL * 1024)
#define LIMIT_LOAD_BALANCER	  (256UL * 1024) /* metadata of its rules */
#define LIMIT_IMDS_TOKEN	  (16UL * 1024)
#define LIMIT_TOKENS		  64 /* identities times resources, cached or asked for at once */
#define LIMIT_ARC_KEY		  4096UL
#define LIMIT_USER_DATA_DECODED	  (64UL * 1024)
#define LIMIT_USER_DATA_ENCODED	  (96UL * 1024) /* base64 of the above with line breaks */
#define LIMIT_USER_DATA_RECORD	  2048UL
#define LIMIT_USER_DATA_MEMORY	  (64UL * 1024) /* what has been applied, and how it ended */
#define LIMIT_USER_DATA_HISTORY	  32 /* revisions remembered */
#define LIMIT_USER_DATA_PARTS	  128 /* of one revision, those of includes too */
#define LIMIT_USER_DATA_MIME_DEPTH 16
#define LIMIT_USER_DATA_MIME_HEADER 8192UL /* one header */
#define LIMIT_USER_DATA_INCLUDES  16 /* URLs of one revision */
#define LIMIT_USER_DATA_INCLUDE	  (256UL * 1024) /* what one URL may answer */
#define LIMIT_USER_DATA_INCLUDE_DEPTH 3
#define LIMIT_USER_DATA_EXPANDED  (1024UL * 1024) /* all parts of one revision together */
#define LIMIT_USER_DATA_PLAN	  (2560UL * 1024) /* the same and the whole as it came, in base64, on disk */
#define LIMIT_USER_DATA_SETTINGS  8 /* settings parts of one revision */
#define LIMIT_OVF_ENVIRONMENT	  (1024UL * 1024)
#define LIMIT_VAULT_SECRET	  (128UL * 1024)
#define LIMIT_VAULT_PAGE	  (512UL * 1024) /* of a list of 25 versions, with their tags */
#define LIMIT_VAULT_PAGES	  100
#define LIMIT_VAULTS		  64 /* whose version of the API is remembered */
#define LIMIT_ERROR_BODY	  (16UL * 1024)
#define LIMIT_CMS		  (1536UL * 1024) /* base64 of protected settings */
#define LIMIT_SETTINGS_FILE	  (LIMIT_SETTINGS + LIMIT_CMS) /* one N.settings file */
#define LIMIT_URI		  8192UL
#define LIMIT_BUNDLE_CERTIFICATES 32 /* with one private key */
#define LIMIT_PKCS12		  (96UL * 1024) /* decoded */
#define LIMIT_PKCS12_BAGS	  64 /* in all */
#define LIMIT_PKCS12_DEPTH	  4 /* bags in bags */
#define LIMIT_PKCS12_ITERATIONS	  2000000 /* of all its derivations together: less than a second */
#define LIMIT_GUNZIP_DEFAULT	  (1024UL * 1024)
#define LIMIT_JOB_FILE		  (1024UL * 1024) /* job.json and result.json */
#define LIMIT_JOB_SECRETS	  (6UL * 1024 * 1024) /* values and contents of one job, escaped */
#define LIMIT_JOB_CONTENT	  (1536UL * 1024) /* one of them */
#define LIMIT_RECORD		  (256UL * 1024) /* one durable record */
#define LIMIT_ETAG		  256 /* one that is longer is not sent back */
#define LIMIT_HTTP_HEADERS	  (16UL * 1024) /* what of a reply's header is kept */
#define LIMIT_HTTP_HEADERS_RECEIVED (16 * LIMIT_HTTP_HEADERS) /* of all its answers together */

/* The HTTP client */
#define LIMIT_HTTP_CONNECT_SECONDS 10 /* unless a request says otherwise */
#define LIMIT_HTTP_CONNECTIONS	   16L
#define LIMIT_HTTP_HOST_CONNECTIONS 4L /* so that one slow service cannot keep the others waiting */
#define LIMIT_HTTP_IDLE_CONNECTIONS 8L

/* Settings */
#define LIMIT_SETTINGS_ERRORS	  8 /* told of one document */
#define LIMIT_SETTINGS_WARNINGS	  16
#define LIMIT_SECRETS		  64
#define LIMIT_SECRET		  (64UL * 1024)
#define LIMIT_DROPIN_FILES	  32 /* evenkeel.d */
#define LIMIT_POLICY		  (256UL * 1024) /* which scripts may run */
#define LIMIT_POLICY_ENTRIES	  1000
#define LIMIT_SCRIPT_ENCODED	  (256UL * 1024)
#define LIMIT_SCRIPT_DECODED	  (4UL * 1024 * 1024) /* after gunzip */

/* Status, settings.md 3.1 */
#define LIMIT_STATUS_FILE	  (64UL * 1024)
#define LIMIT_STATUS_MESSAGE	  4096
#define LIMIT_STATUS_OUTPUT	  (36UL * 1024) /* a message that ends with a script's output */
#define LIMIT_STATUS_SUBSTATUS	  100
#define LIMIT_STATUS_COMPONENTS	  700 /* of one round: 500 certificates, 100 secrets, 32 scripts, a few more */
#define LIMIT_STATUS_CERTIFICATES 90 /* more are summed up */

/* Running things */
#define LIMIT_ARGV		  64
#define LIMIT_CHILD_OUTPUT	  (64UL * 1024) /* of helpers whose output we read ourselves */
#define LIMIT_JOBS		  64 /* alive at once */
#define LIMIT_KEY_RECORDS	  10000
#define LIMIT_JOB_DIRECTORIES	  100000
#define LIMIT_RUNS_BY_HAND	  16 /* of scripts, at once */
#define LIMIT_KEPT_RUNS_BYTES	  (1024UL * 1024 * 1024) /* of all scripts together */
#define LIMIT_KEPT_RUNS_DAYS	  30
#define LIMIT_LEDGER		  64 /* steps of a drain plan, and so begun ones */
#define LIMIT_FORMER		  8  /* events that a drain was for, kept until it is undone */
#define LIMIT_STEP_DETAIL	  300 /* what is kept of why a step failed */
#define LIMIT_DRAIN_ACTIONS	  1024 /* waiting for the shell */
#define LIMIT_SNAPSHOT_UNITS	  256
#define LIMIT_HOOKS		  64 /* in one hook directory */
#define LIMIT_PORTS		  64 /* of one wait for connections, or of the load balancer's rules */
#define LIMIT_LOG_LINE		  2048

/* Telling */
#define LIMIT_METRIC_SERIES	  4096
#define LIMIT_NOTICES		  64 /* waiting for one webhook; the oldest goes */
#define LIMIT_NOTICE		  16384 /* one, as it is sent */

/* Files */
#define LIMIT_TREE_DEPTH 128 /* directories below one another, when a tree is removed or measured */
#define LIMIT_TREE_FILES 10000 /* looked at when a tree is measured */

/* Listeners */
#define LIMIT_LISTENER_CONNECTIONS 32
#define LIMIT_LISTENER_REQUEST	   (64UL * 1024)
#define LIMIT_LISTENER_SECONDS	   15
#define LIMIT_KEPT_SOCKETS	   8 /* as the unit's FileDescriptorStoreMax= */
#define LIMIT_LOCAL_QUESTION	   (16UL * 1024) /* a socket takes it at once */
#define LIMIT_API_REPLY		   (2048UL * 1024) /* of any listener; what LIMIT_SETTINGS asks for, and as much that is true of it */
