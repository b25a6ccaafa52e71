#include "device/core.h"

#include <unistd.h>

void wake_loop(struct device_core *core)
{
	const uint64_t one = 1;

	if (write(core->wake_fd, &one, sizeof(one)) < 0)
		return; /* counter is full: already awake */
}
