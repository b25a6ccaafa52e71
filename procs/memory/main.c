#include "memory.h"

static const struct proc_role role = {
	.name = "memory",
	.start = memory_start,
	.stop = memory_stop,
};

int main(int argc, char *argv[])
{
	return proc_main(argc, argv, &role);
}
