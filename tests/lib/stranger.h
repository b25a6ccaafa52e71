#ifndef TESTS_LIB_STRANGER_H
#define TESTS_LIB_STRANGER_H

#include <stdbool.h>

/*
 * Descriptors for which another party controls how long a call takes: a file on a FUSE mount whose
 * server stops answering, and a TCP connection with SO_LINGER and unsent data.
 */

struct stranger;

/*
 * stranger_fuse() - mount a FUSE file system, and open its only file, of 4 MiB, for reading and
 * writing. Returns NULL if mounting is not possible (no /dev/fuse, no permission); the test is then
 * skipped.
 */
struct stranger *stranger_fuse(void);
/* the file's descriptor; borrowed */
int stranger_fd(const struct stranger *stranger);
/* stop answering requests, or resume */
void stranger_hang(struct stranger *stranger, bool yes);
/* number of requests for the file, answered or not */
unsigned int stranger_asked(const struct stranger *stranger);
/* ends the server, which unblocks all callers */
void stranger_free(struct stranger *stranger);

/*
 * stranger_linger() - a TCP connection whose last close() waits for `seconds`
 * @ret_keep: [out] two descriptors at the other end that must stay open until the test is over
 * Returns the caller's descriptor.
 */
int stranger_linger(int seconds, int ret_keep[2]);

#endif
