/* Without libpcap. */
#include "capture.h"

#include <errno.h>
#include <stdio.h>

int capture_run(const struct arguments *args, char *target)
{
	fputs("this bulkheadctl was built without libpcap; use 'tcpdump -i TAP'\n", stderr);
	return -ENOTSUP;
}
