/*
 * What the doctor's checks share, for doctor_*.c only. A check is one function: it looks, tells what it found, and begins
 * probes for what has to be waited for. Probes run on the loop at the same time and tell when they are over.
 */
#pragma once

#include <stdbool.h>

#include "agent/app/doctor.h"
#include "agent/app/documents.h"
#include "agent/base/time.h"
#include "agent/io/paths.h"

#define DOCTOR_LOCAL_USEC   (3 * USEC_PER_SEC)
#define DOCTOR_REQUEST_USEC (10 * USEC_PER_SEC) /* one request over the network */
#define DOCTOR_TOTAL_USEC   (20 * USEC_PER_SEC) /* all of them; the rest is for looking at files */
#define DOCTOR_PROBES_MAX   64			/* of one check: more of the same say nothing new */

struct blob_call;
struct blob_client;
struct bus;
struct bus_call;
struct doctor;
struct http_call;
struct local_call;
struct imds_call;
struct loop;
struct token_call;
struct tokens;
struct vault_call;

struct doctor_check {
	const char *name;
	const char *how;    /* it is found out, for people */
	const char *advice; /* when a finding has none of its own */
	void (*run)(struct doctor *d);
};

/* Something that is waited for. What it began is cancelled and released with it, at the end. */
struct doctor_probe {
	struct doctor *doctor;
	const struct doctor_check *check;
	struct doctor_probe *next;
	char *subject;	    /* what or whom it asks, for people */
	char *needs;	    /* subject of the probe that must succeed before; NULL: none */
	size_t index, part; /* of what it asks for, in the settings */
	bool over;

	struct http_call *http;
	struct local_call *local;
	struct imds_call *imds;
	struct token_call *token;
	struct vault_call *vault;
	struct blob_call *blob;
	struct blob_client *client;
	struct bus_call *bus;
};

struct doctor {
	const struct paths *paths;
	const struct doctor_check *check; /* that runs now */
	const struct doctor_check *vaults;
	const struct doctor_check *clock; /* what the Date of answers is told under */
	struct loop *loop;
	struct http *http; /* as the settings reach the network; NULL: cannot be made */
	struct bus *bus;   /* NULL: no systemd manager answers */
	struct tokens *tokens;

	struct goal_request goal;
	bool have_goal;
	struct settings settings;  /* that the checks look at; no section when there are none to be had */
	struct jd_report report;   /* about the newest settings */
	struct error refused;	   /* why they are not usable; code 0: they are */
	struct error user_refused; /* why those of user data are not in force; "": they are, or there are none */
	bool former;		   /* they are not, so those in force before are looked at */

	struct jd_list findings; /* of struct finding */
	size_t findings_room;
	struct doctor_probe *probes;
	size_t waiting; /* probes that are not over */
	bool asking;	/* the loop runs */
	bool oom;
};

/* The table, for who lists it. */
const struct doctor_check *doctor_checks(size_t *ret_n);

/* Adds a finding of the check that runs (or of the probe's). `advice` NULL: the check's own, for anything worse than ok. */
void doctor_tell(struct doctor *d, enum verdict v, const char *advice, const char *fmt, ...) _printf_(4, 5);
void doctor_tell_probe(struct doctor_probe *p, enum verdict v, const char *advice, const char *fmt, ...) _printf_(4, 5);

/* NULL: out of memory, or too many of this check. The loop goes on until every probe is over. */
struct doctor_probe *doctor_probe_new(struct doctor *d, const char *subject);
/* This check's probe for the subject, or NULL. */
struct doctor_probe *doctor_probed(const struct doctor *d, const char *subject);
void doctor_probe_over(struct doctor_probe *p);

/* doctor_settings.c */
void doctor_load_settings(struct doctor *d);
void doctor_check_settings(struct doctor *d);
void doctor_check_secrets(struct doctor *d);
void doctor_check_certificates(struct doctor *d);

/* doctor_platform.c */
void doctor_check_imds(struct doctor *d);
void doctor_check_imds_lock(struct doctor *d);
void doctor_check_agent(struct doctor *d);
void doctor_check_cloud_init(struct doctor *d);
void doctor_check_rivals(struct doctor *d);

/* Appends where a URI leads and its path, never its query. For messages. */
void doctor_name_uri(const char *uri, char *out, size_t size);

/* doctor_network.c */
void doctor_check_authorities(struct doctor *d);
void doctor_check_proxy(struct doctor *d);
void doctor_check_hosts(struct doctor *d);

/* doctor_storage.c: what the identities of the settings may read */
void doctor_check_identities(struct doctor *d);
void doctor_check_vaults(struct doctor *d);
void doctor_check_blobs(struct doctor *d);

/* doctor_system.c */
void doctor_check_systemd(struct doctor *d);
void doctor_check_clock(struct doctor *d);
void doctor_check_noexec(struct doctor *d);
void doctor_check_space(struct doctor *d);
void doctor_check_packages(struct doctor *d);

/* doctor_files.c */
void doctor_check_permissions(struct doctor *d);
void doctor_check_logind(struct doctor *d);
void doctor_check_hooks(struct doctor *d);

/* doctor_selinux.c */
void doctor_check_selinux(struct doctor *d);

/* doctor_units.c */
void doctor_check_service(struct doctor *d);
void doctor_check_units(struct doctor *d);

/* doctor_proc.c: the processes of this machine. `pid` ends the list when visit() returns true. */
typedef bool (*doctor_process_fn)(int pid, char *const *argv, void *userdata);
void doctor_each_process(doctor_process_fn visit, void *userdata);
/* The daemon that works below our root; 0: none is found. */
int doctor_service_pid(const struct doctor *d);
