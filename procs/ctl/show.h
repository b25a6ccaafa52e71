#pragma once

#include "seen.h"

/** struct show - an output format, written to standard output. begin() is called once, then
 * guest() for each guest, then end(). */
struct show {
	void (*begin)(void);
	void (*guest)(const struct seen *seen); /* judged; borrowed */
	void (*end)(void);
};

/** show_table is for people, show_json for programs */

extern const struct show show_table, show_json;
