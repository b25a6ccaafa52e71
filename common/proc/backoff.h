#pragma once

/** backoff_begin() - count this start, and sleep if the starts before it failed; once, after
 * fdstore_init() */
void backoff_begin(void);

/** backoff_done() - the process is ready: reset the count of failed starts */
void backoff_done(void);
