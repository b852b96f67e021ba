/*
 * What the verbs for people share: finding the service, giving it an order, asking it for a document, and tables. Each
 * message names the verb; each function returns an exit code of exit_codes.h.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/buf.h"
#include "agent/base/macros.h"
#include "agent/base/time.h"

struct jd_type;
struct paths;

#define CLI_ANSWER_USEC (10 * USEC_PER_SEC)

/* Says that only root may; `verb` may be NULL. EXIT_NOT_PERMITTED. */
int cli_not_permitted(const char *verb);

/* "90", "90s", "15min", "2h": seconds, at most 7 days. */
_nodiscard_ bool cli_duration(const char *text, uint64_t *ret);
/* Says what one is. EXIT_USAGE. */
int cli_bad_duration(const char *text);

/* The paths, if a service is running; else it says so. Release with paths_done() in any case. */
_nodiscard_ int cli_open(struct paths *p);

/* Sends the order ("/v1/drain", or one level deeper) with its argument and prints the sentence that answers it. `verb`:
 * the words the person typed ("certs refresh"). */
int cli_order(const struct paths *p, const char *verb, const char *path, const char *argument);
_nodiscard_ int cli_order_alone(const char *verb, const char *path, const char *argument);

/* Prints the sentence of an answer that is a refusal; its exit code. */
int cli_refused(const char *verb, int status, const struct buf *reply);

/* Asks for a document; `text` is it. */
_nodiscard_ int cli_get(const struct paths *p, const char *verb, const char *path, struct buf *text);
/* And decodes it; release with jd_free(). */
_nodiscard_ int cli_look(const struct paths *p, const char *verb, const char *path, const struct jd_type *type,
			 struct buf *text, void *ret);

/* Width of the terminal that standard output is; 0: it is none, nothing is cut. */
unsigned cli_columns(void);

/* Whether standard output is a terminal that takes escape sequences. */
bool cli_is_terminal(void);

enum cli_color { COLOR_PLAIN, COLOR_STRONG, COLOR_GOOD, COLOR_WARNING, COLOR_BAD, COLOR_FAINT };
/* The sequence that begins it; "" unless standard output is such a terminal and NO_COLOR is not set. */
const char *cli_color(enum cli_color color);

/* Says what is waited for, on a terminal: for what may take longer than a second. */
void cli_note_wait(const char *what);

/*
 * A table, as people read it: rows of cells, columns as wide as their widest cell, two spaces between them; the last
 * column is cut where the terminal ends. `cells` are rows * columns texts, the head first; NULL is "-". Control
 * characters in cells are shown as spaces.
 */
void cli_table(const char *const *cells, size_t rows, size_t columns);
