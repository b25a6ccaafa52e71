#pragma once

struct child;
struct guest;

/*
 * What the launcher tells bulkheadctl of a guest: a file in the guest's runtime folder, which only
 * the launcher writes. It is replaced as a whole, so that a reader sees one state or the next. The
 * lock file says whether the launcher that wrote it is still there.
 *
 * The first line is "config PATH". A line for each process follows: NAME ROLE PID STATE RESTARTS,
 * and the reason up to the end of the line. STATE is running, starting, ended (it will be started
 * again) or given-up.
 */

#define TOLD_FILE "processes"

/** told_write() - write it now; a failure is logged */
void told_write(struct guest *guest);
/** told_note_status() - what a process says of itself; written a moment later, however often it
 * changes */
void told_note_status(struct child *child, const char *text);
/** told_note_end() - how the process has ended, for the next told_write() */
void told_note_end(struct child *child, int wait_status);
/** told_remove() - the guest is no longer served */
void told_remove(struct guest *guest);
