#pragma once

/**
 * late_unmap() - let the parent learn of this process's death before its memory is torn down
 *
 * For processes that map guest memory; once, from the main thread. It costs a second process,
 * "(late-unmap)", which has no descriptors, sleeps all the time and exits after this one, without a
 * SIGCHLD. If that process cannot be made, the error is logged and a successor starts later. A
 * systemd unit needs KillMode=process, or systemd waits for both.
 */
void late_unmap(void);
