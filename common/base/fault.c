#include "base/fault.h"

#ifdef BULKHEAD_FAULT_POINTS

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The file is read at every call, because a test changes it meanwhile. A line that was carried out
 * is commented out. */
void fault_point(const char *name, uint64_t value)
{
	const char *path = getenv("BULKHEAD_FAULTS");
	FILE *file = path ? fopen(path, "r+e") : NULL;
	char line[128], wanted[64];
	uint64_t number;
	long at = 0;
	int sig;

	for (; file && fgets(line, sizeof(line), file); at = ftell(file)) {
		if (sscanf(line, "%63s %" SCNu64 " %d", wanted, &number, &sig) != 3 ||
			strcmp(wanted, name) != 0 || number != value)
			continue;
		(void)fseek(file, at, SEEK_SET);
		(void)fputc('#', file);
		fclose(file);
		while (sig == 0)
			pause();
		(void)raise(sig);
		return;
	}
	if (file)
		fclose(file);
}

#endif
