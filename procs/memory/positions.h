#pragma once

#include "bus.pb-c.h"
#include "served.h"

/** positions_fill() - whether the worker is gone, and where the rings stand that the VMM has stopped
 * @reply: [out] what it is given is borrowed until the next call */
void positions_fill(const struct served *device, Bh__CommitDesiredReply *reply);
