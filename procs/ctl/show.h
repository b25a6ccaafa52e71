#pragma once

#include "bus.pb-c.h"

/** struct show - an output format, written to standard output. begin() is called once, then
 * guest() or failed() for each guest, then end(). */
struct show {
	void (*begin)(void);
	void (*guest)(const Bh__GetStatusReply *status);    /* borrowed */
	void (*failed)(const char *guest, const char *why); /* it could not be queried */
	void (*end)(void);
};

/** show_table is for people, show_json for programs */

extern const struct show show_table, show_json;
