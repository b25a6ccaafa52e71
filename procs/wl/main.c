#include "wl.h"

static int open(struct proc *proc)
{
	return device_proc_open(proc, &wl_ops);
}

static const struct proc_role role = {
	.name = "wl",
	.per_device = true,
	.open = open,
	.start = device_proc_start,
	.leave = device_proc_leave,
	.stop = device_proc_stop,
};

int main(int argc, char *argv[])
{
	return proc_main(argc, argv, &role);
}
