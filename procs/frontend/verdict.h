#pragma once

#include <stddef.h>

#include "base/blame.h"

/**
 * verdict_explain() - say why no VMM of a device is served any more: in the log, and in a text for
 * the record
 * @mark: [in] the message that this process died of, how often, and how
 * @text: [out] the reason in one line; n_text bytes
 */
void verdict_explain(const char *device, const struct blame_mark *mark, char *text, size_t n_text);
