#pragma once

/** backoff_begin() - count this start, and sleep if the starts before it failed; once, after
 * fdstore_init() */
void backoff_begin(void);

/** backoff_failed() - why this start fails: its successors tell the service manager while they wait
 * @why: [in] cut at 400 bytes */
void backoff_failed(const char *why);

/** backoff_done() - the process is ready: reset the count of failed starts */
void backoff_done(void);
