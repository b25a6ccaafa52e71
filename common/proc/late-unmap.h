#pragma once

/**
 * late_unmap() - let this process's end be told before its memory is unmapped
 *
 * For processes that map guest memory; once, from the main thread. Costs a second process ("(late-unmap)") that has no
 * descriptors and never runs; it ends with this one, and its end is told to nobody. Without it (the error is logged)
 * all works, but a successor starts later. Under systemd the unit needs KillMode=process, or it waits for both.
 */
void late_unmap(void);
