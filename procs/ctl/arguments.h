#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXIT_USAGE 2 /* exit status: the command line is wrong */

/** struct arguments - the options of bulkheadctl; each command uses those that its usage names */
struct arguments {
	const char *runtime_dir;
	const char *config_dir; /* NULL = the usual place */
	bool json;
	bool quiet;
	bool no_counters;
	bool dry_run;
	bool done;           /* --help or --version was answered */
	const char *output;  /* a file in place of standard output; NULL = none is given */
	bool http;           /* standard input is a connection that asks for a page */
	const char *filter;  /* NULL = everything */
	uint64_t count;      /* 0 = without end */
	uint64_t snap_bytes; /* 0 = whole frames */
	uint64_t interval_s;
	bool given[128]; /* options, by the letter of each */
};
