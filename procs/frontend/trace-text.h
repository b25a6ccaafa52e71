#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRACE_TEXT_BYTES 1024

/**
 * trace_text() - the payload of a message, or of its reply, in words: addresses and numbers, and
 *                the device's configuration space; nothing of the guest's memory is looked at
 * @payload: [in]  n_payload bytes, hostile; what the message's layout has beyond them is not shown
 * @ret:     [out] TRACE_TEXT_BYTES; cut if it is longer
 */
void trace_text(uint32_t request, bool is_reply, const void *payload, size_t n_payload, char *ret);
