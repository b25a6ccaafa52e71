#pragma once

/** backoff_begin() - count this start, and wait if those before it came to nothing; once, after fdstore_init() */
void backoff_begin(void);

/** backoff_done() - this process is ready: what follows is another matter */
void backoff_done(void);
