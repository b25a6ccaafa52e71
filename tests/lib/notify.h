#pragma once

/* The service manager's end of sd_notify(), for a test of what is told it. */

/** notify_listen() - a non-blocking socket that has what this process and its children tell the
 * service manager from here on, each message with its descriptors; -1 = there is none. Its name,
 * which $NOTIFY_SOCKET gets, is the kernel's choice and no file: nothing of it outlives a test that
 * died. The caller closes it. */
int notify_listen(void);
