/* `evenkeel doctor`: what it found, as a table with advice, or as JSON. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/app/arguments.h"
#include "agent/app/cli_client.h"
#include "agent/app/doctor_private.h"
#include "agent/app/verbs.h"
#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/core/exit_codes.h"

#define TABLE_COLUMNS 3

static int print_table(const struct doctor_report *r)
{
	const struct finding *list = r->findings.items;
	size_t rows = r->findings.n + 1;
	_cleanup_free_ const char **cells = calloc(rows * TABLE_COLUMNS, sizeof(*cells));

	if (!cells)
		return -ENOMEM;
	cells[0] = "VERDICT";
	cells[1] = "CHECK";
	cells[2] = "FOUND";
	for (size_t i = 0; i < r->findings.n; i++) {
		const char **row = &cells[(i + 1) * TABLE_COLUMNS];

		row[0] = verdict_name((enum verdict)list[i].verdict);
		row[1] = list[i].check;
		row[2] = list[i].found;
	}
	cli_table(cells, rows, TABLE_COLUMNS);
	return 0;
}

/* What the table may have cut, and what to do. */
static void print_advice(const struct doctor_report *r)
{
	const struct finding *list = r->findings.items;

	for (size_t i = 0; i < r->findings.n; i++)
		if (list[i].verdict != VERDICT_OK)
			printf("\n%s: %s: %s\n  %s\n", verdict_name((enum verdict)list[i].verdict), list[i].check,
			       list[i].found, list[i].advice);
}

static int print_checks(void)
{
	size_t n;
	const struct doctor_check *checks = doctor_checks(&n);
	_cleanup_free_ const char **cells = calloc((n + 1) * TABLE_COLUMNS, sizeof(*cells));

	if (!cells)
		return EXIT_FAILED;
	cells[0] = "CHECK";
	cells[1] = "HOW";
	cells[2] = "ADVICE";
	for (size_t i = 0; i < n; i++) {
		const char **row = &cells[(i + 1) * TABLE_COLUMNS];

		row[0] = checks[i].name;
		row[1] = checks[i].how;
		row[2] = checks[i].advice;
	}
	cli_table(cells, n + 1, TABLE_COLUMNS);
	return EXIT_OK;
}

static int print_json(const struct doctor_report *r)
{
	_cleanup_buf_ struct buf out = BUF_INIT(LIMIT_API_REPLY);

	if (doctor_encode(r, &out) < 0)
		return -ENOMEM;
	return puts(buf_str(&out)) < 0 ? -EPIPE : 0;
}

int verb_doctor(int argc, char **argv)
{
	_cleanup_(doctor_report_done) struct doctor_report report = { 0 };
	_cleanup_(paths_done) struct paths p = { 0 };
	struct error e = ERROR_INIT;
	bool json = false;
	int r;

	if (argc == 2 && str_equal(argv[1], "--checks"))
		return print_checks();
	json = argc == 2 && str_equal(argv[1], "--json");
	if (argc > 1 && !json)
		return cli_usage("doctor");
	r = paths_init(&p, NULL, &e);
	if (r >= 0 && geteuid() != 0 && !p.root[0]) {
		fprintf(stderr, "evenkeel doctor: only root can look at everything; run: sudo evenkeel doctor\n");
		return EXIT_NOT_PERMITTED;
	}
	if (r >= 0 && !json && isatty(STDERR_FILENO))
		fprintf(stderr, "looking and asking, at most 30 s ...\n");
	if (r >= 0)
		r = doctor_examine(&p, &report, &e);
	if (r >= 0 && json)
		r = print_json(&report);
	else if (r >= 0) {
		r = print_table(&report);
		print_advice(&report);
	}
	if (r < 0) {
		fprintf(stderr, "evenkeel doctor: %s\n", e.msg[0] ? e.msg : strerror(-r));
		return EXIT_FAILED;
	}
	return doctor_exit_code(&report);
}
