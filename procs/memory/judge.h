#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bus.pb-c.h"
#include "virtio/vhost-user.h"
#include "virtio/virtio.h"

/*
 * What a half of a record may say. It may come from a process of ours that was taken over, or from
 * a file that is read again. These functions are pure. They judge counts, indices, lengths, and the
 * counters that continue over all sessions; they do not look at descriptors or at guest memory.
 */

/**
 * judge_desired() - whether the frontend's half may be put in force
 * @now:  [in] the generation that is in force; 0 = none yet, or not known
 * @text: [out] the rule that was broken, with the numbers; n_text bytes; untouched on 0
 *
 * Returns: 0 | 1 refused.
 */
int judge_desired(const Bh__Desired *desired, uint64_t now, char *text, size_t n_text);

/**
 * judge_desired_steps() - whether what it counts beside its generation goes on from what is in
 *                         force, by steps that leave room for more
 * @now:  [in] what is in force
 * @text: [out] as above
 *
 * Returns: 0 | 1 refused.
 */
int judge_desired_steps(const Bh__Desired *next, const Bh__Desired *now, char *text, size_t n_text);

/**
 * judge_observed() - whether a worker may report this
 * @desired: [in] the generation in force: nothing later can have been applied
 * @text:    [out] as above
 *
 * Returns: 0 | 1 refused.
 */
int judge_observed(const Bh__Observed *observed, uint64_t desired, char *text, size_t n_text);

/**
 * judge_observed_steps() - as judge_desired_steps(), of a report
 * @now:  [in] the last report
 * @text: [out] as above
 *
 * Returns: 0 | 1 refused.
 */
int judge_observed_steps(const Bh__Observed *next, const Bh__Observed *now, char *text,
	size_t n_text);

/**
 * judge_transfer() - whether this can be the end of a step of a transfer
 * @with_state: the step hands over a state
 * @text:       [out] as above
 *
 * Returns: 0 | 1 refused.
 */
int judge_transfer(const Bh__ReportTransfer *report, bool with_state, char *text, size_t n_text);
