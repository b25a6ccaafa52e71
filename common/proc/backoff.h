#pragma once

/** backoff_begin() - count this start, and sleep if the starts before it failed; once, after
 * fdstore_init() */
void backoff_begin(void);

/** backoff_failed() - why this start fails: its successors tell the service manager while they wait
 * @why: [in] cut at 400 bytes */
void backoff_failed(const char *why);

/** backoff_done() - the process is ready: reset the count of failed starts */
void backoff_done(void);

/** backoff_give_way() - this start has failed like the ones before: whoever waits for systemd to
 * start the unit, like the boot of the host, waits no longer. The unit is tried again all the
 * same. Blocks for a second at most */
void backoff_give_way(void);
