#pragma once

#include "bus.pb-c.h"

/**
 * plausible_status() - judge an answer of a memory manager, which may have been compromised
 *
 * Processes, devices, rings, causes of pauses and reasons of drops are there once, and no list is
 * longer than a guest can have it. So whoever shows the answer needs no limit of its own, and
 * metrics never have a series twice, which would make the page of all guests unreadable.
 *
 * Returns: NULL: it is plausible | what is not; a static text.
 */
const char *plausible_status(const Bh__GetStatusReply *status);
