/*
 * Putting a renewed certificate or secret to use, step by step (agent/core/key_activation.h decides, this does): activate.c
 * goes from step to step, activate_files.c makes and switches files, activate_run.c runs check and commands, verify.c asks the
 * endpoint, reload.c reloads units for all who wait for it, hooks.c runs the hooks, activate_facts.c says what commands and
 * hooks are told, sweep.c removes what a kill has left. For this handler's own files only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agent/base/buf.h"
#include "agent/base/log.h"
#include "agent/core/job.h"
#include "agent/core/key_activation.h"
#include "agent/core/status.h"
#include "handlers/key_refresh/install.h"

struct handler;
struct hooks;
struct item;
struct reloads;
struct sweep;
struct x509_bundle;

/* ---- activate.c ---- */

_nodiscard_ int activate_new(struct item *i); /* takes up what the record says is under way */
void activate_forget(struct item *i);	      /* what runs runs on */
/* The files are in place for the first time; the record is saved by the caller. */
void activate_first(struct item *i);
/* The version that was found has failed, and its time has not come. */
void activate_not_again(struct item *i);
/* The files are to look otherwise from now on. */
void activate_reshape(struct item *i, const char *shape);

/* When the item has something to do by itself, on the boot clock; it is idle. */
usec_t activate_due(const struct item *i);
void activate_go(struct item *i);
/* Whether it is on its way to having its units reloaded. */
bool activate_before_reload(const struct item *i);
void activate_ended(struct item *i, enum activation_end end, const char *why);
/* What was begun ends where it is; the vault is asked again. */
void activate_put_aside(struct item *i, enum log_level level, const char *why);

struct activation_needs activate_needs(const struct item *i);

/* ---- activate_files.c ---- */

/* Whether there is a way from what is in use to what was found that can be gone back. */
bool activate_guards(const struct item *i);
void activate_begin(struct item *i, const struct x509_bundle *bundle, const char *value, size_t len);
/* The set that DIRECTORY/current shows, or NULL. Heap. */
char *activate_current_set(const char *directory);
void activate_switch(struct item *i, enum key_switch how);
void activate_note_reach(struct item *i, const struct job_result *result);

/* ---- activate_run.c ---- */

void activate_check(struct item *i);
void activate_commands(struct item *i); /* PHASE_TOLD */

/* ---- verify.c ---- */

void activate_verify(struct item *i);
void activate_verify_stop(struct item *i);

/* ---- reload.c ---- */

_nodiscard_ int reloads_new(struct handler *h, struct reloads **ret);
void reloads_free(struct reloads *r);
/* Begins with the units of all who wait, unless others will be so far soon. The next look is due then, or USEC_INFINITY. */
usec_t reloads_look(struct reloads *r, usec_t now_boot);

/* ---- hooks.c ---- */

_nodiscard_ int hooks_new(struct handler *h, struct hooks **ret);
void hooks_free(struct hooks *k);
/* Whether there are any: the item is then noted as untold. */
bool hooks_there(const struct hooks *k);
usec_t hooks_look(struct hooks *k, usec_t now_boot);
bool hooks_busy(const struct hooks *k);
void hooks_forgive(struct hooks *k); /* new settings: at once */
void hooks_describe(const struct hooks *k, const struct item *i, struct buf *out, struct component *c);

/* ---- sweep.c ---- */

_nodiscard_ int sweep_new(struct handler *h, struct sweep **ret);
void sweep_free(struct sweep *s);
/* When nothing is at work for the first time, what nobody waits for goes. */
void sweep_look(struct sweep *s);
void sweep_again(struct sweep *s);

/* ---- activate_facts.c ---- */

enum told_phase { TOLD_CHECK, TOLD_ACTIVATE, TOLD_ROLLBACK, TOLD_HOOKS };
/* Environment and standard input of a command (evenkeel-hooks(7)). */
_nodiscard_ int activate_tell(struct job *spec, struct item *const *items, size_t n, enum told_phase phase);
/* What has become of a command, with the end of what it wrote. */
void activate_phrase(const struct job_result *r, struct buf *out);
