#include "net.h"

static int start(struct proc *proc)
{
	return device_proc_start(proc, &net_ops);
}

static const struct proc_role role = {
	.name = "net",
	.per_device = true,
	.start = start,
	.leave = device_proc_leave,
	.stop = device_proc_stop,
};

int main(int argc, char *argv[])
{
	return proc_main(argc, argv, &role);
}
