#pragma once

#include "bus.pb-c.h"

/** struct show - a way to show what guests say; called in this order */
struct show {
	void (*begin)(void);
	void (*guest)(const Bh__GetStatusReply *status);
	void (*failed)(const char *guest, const char *why);
	void (*end)(void);
};

extern const struct show show_table, show_json;
