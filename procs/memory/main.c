#include "memory.h"

static const struct proc_role role = {
	.name = "memory",
	.start = memory_start,
	.leave = memory_leave,
	.stop = memory_stop,
};

int main(int argc, char *argv[])
{
	return proc_main(argc, argv, &role);
}
