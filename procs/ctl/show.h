#pragma once

#include "bus.pb-c.h"

/** struct show - a format of the output, written to standard output. begin() is called once, then
 * guest() or failed() for each guest, then end() */
struct show {
	void (*begin)(void);
	void (*guest)(const Bh__GetStatusReply *status);    /* borrowed */
	void (*failed)(const char *guest, const char *why); /* nobody answered for it */
	void (*end)(void);
};

/** show_table is for people, show_json for programs */

extern const struct show show_table, show_json;
