#ifndef TESTS_LIB_STRANGER_H
#define TESTS_LIB_STRANGER_H

#include <stdbool.h>

/*
 * Descriptors behind which somebody else decides how long a call takes: a file of a FUSE mount
 * whose server stops answering, and a TCP connection with SO_LINGER and unsent data.
 */

struct stranger;

/*
 * stranger_fuse() - mount a FUSE file system and open its only file, of 4 MiB, for reading and
 * writing Returns NULL where this may not be mounted (no /dev/fuse, no right to); the test is then
 * not run.
 */
struct stranger *stranger_fuse(void);
/* the descriptor; the stranger's */
int stranger_fd(const struct stranger *stranger);
/* from now on no question is answered, or all are again */
void stranger_hang(struct stranger *stranger, bool yes);
/* how many questions about the file have come, whether they were answered or not */
unsigned int stranger_asked(const struct stranger *stranger);
/* ends the server, which lets go whoever waits for it */
void stranger_free(struct stranger *stranger);

/*
 * stranger_linger() - a TCP connection whose last close() waits for `seconds`
 * @ret_keep: [out] two descriptors at the other end that must stay open until the test is over
 * Returns the caller's descriptor.
 */
int stranger_linger(int seconds, int ret_keep[2]);

#endif
