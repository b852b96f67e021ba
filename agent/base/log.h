/*
 * Logging. A message goes once to every sink that was added (file, journal, console, stderr); sinks
 * belong to higher layers. Fields are the few things an operator filters by. Library code does not log
 * above debug: who decides what happens next logs, once. The sinks are the program's only mutable globals.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/base/macros.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* What the message is about; NULL members are left out. Milestones also go to the console. */
struct log_fields {
	const char *handler;  /* customScript, keyRefresh, drain, userData, extension, daemon */
	const char *event_id; /* a scheduled event */
	const char *job;
	const char *unit;
	const char *sequence; /* sequence number, as text */
	bool milestone;
};

struct log_record {
	enum log_level level;
	struct log_fields fields;
	const char *message; /* one line, valid UTF-8, at most LIMIT_LOG_LINE */
};

struct log_sink {
	void (*write)(struct log_sink *sink, const struct log_record *record);
	struct log_sink *next; /* owned by log.c while added */
	enum log_level max_level;
	bool milestones_only;
};

/* The sink must outlive its being added. */
void log_add_sink(struct log_sink *sink);
void log_remove_sink(struct log_sink *sink);

void log_full(enum log_level level, const struct log_fields *fields, const char *fmt, ...) _printf_(3, 4);

#define log_error(...)	 log_full(LOG_LEVEL_ERROR, NULL, __VA_ARGS__)
#define log_warning(...) log_full(LOG_LEVEL_WARNING, NULL, __VA_ARGS__)
#define log_info(...)	 log_full(LOG_LEVEL_INFO, NULL, __VA_ARGS__)
#define log_debug(...)	 log_full(LOG_LEVEL_DEBUG, NULL, __VA_ARGS__)
/* log_for(LOG_LEVEL_INFO, (.handler = "drain", .event_id = id), "...") */
#define log_for(level, fields_, ...) log_full((level), &(struct log_fields)LOG_UNWRAP fields_, __VA_ARGS__)
#define LOG_UNWRAP(...) { __VA_ARGS__ }

const char *log_level_name(enum log_level level); /* error warning info debug */
