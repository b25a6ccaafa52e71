#pragma once

/* The service manager's end of sd_notify(), for tests of what it is sent. */

/** notify_listen() - a non-blocking socket that receives what this process and its children send
 * to the service manager from now on, each message with its descriptors; -1 = failed. The kernel
 * chooses its abstract name, which is put into $NOTIFY_SOCKET, so that a test that dies leaves no
 * file behind. The caller closes it. */
int notify_listen(void);
