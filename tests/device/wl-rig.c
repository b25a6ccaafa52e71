#include "wl-rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char path[64];

int wl_rig_main(const char *name, void (*add)(Suite *suite))
{
	struct suite_device net0 = { .type = "wl", .wayland = path, .vfds = WL_RIG_VFDS };
	char dir[] = "/tmp/bh-wl-XXXXXX";
	int r;

	if (!mkdtemp(dir) || chmod(dir, 0755) < 0)
		return 1;
	snprintf(path, sizeof(path), "%s/wayland-0", dir);
	r = rig_main(name, &net0, add);
	unlink(path);
	rmdir(dir);
	return r;
}

struct recorder *wl_rig_compositor(void)
{
	struct recorder *compositor = recorder_new(path, 64);

	chmod(path, 0777);
	return compositor;
}
