#pragma once

#include <stddef.h>
#include <stdint.h>

#include "record.pb-c.h"

/*
 * What a half of a record may say, whoever wrote it: a process of ours that was taken over, or the
 * file that is opened again. Pure: counts, indices, lengths and counters that go on over all
 * sessions; not the descriptors, and not what the guest's memory holds.
 */

#define RINGS_MAX 256

/**
 * judge_desired() - whether this may be in force
 * @now:  the generation that is; 0 = none yet, or not known
 * @text: [out] the rule that was broken, with the numbers; n_text bytes
 *
 * Returns: 0 | 1 refused.
 */
int judge_desired(const Bh__Desired *desired, uint64_t now, char *text, size_t n_text);

/**
 * judge_observed() - whether a worker may say this
 * @desired: the generation in force: nothing later can have been applied
 */
int judge_observed(const Bh__Observed *observed, uint64_t desired, char *text, size_t n_text);
