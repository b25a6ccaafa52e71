#pragma once

#include <stddef.h>

#include "base/blame.h"
#include "proc/proc.h"

/**
 * quarantine_explain() - say why this process stops a device: in the log, and in a text for the
 * record
 * @device: [in] its name
 * @who:    [in] this process, as an operator calls it: "worker"
 * @input:  [in] the input that killed it, in the process's own terms
 * @mark:   [in] how often, and how
 * @text:   [out] the reason in one line; n_text bytes
 */
void quarantine_explain(const struct proc *proc, const char *device, const char *who,
	const char *input, const struct blame_mark *mark, char *text, size_t n_text);
