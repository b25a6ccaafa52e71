#include "frontend.h"

static const struct proc_role role = {
	.name = "frontend",
	.open = frontend_open,
	.start = frontend_start,
	.leave = frontend_leave,
	.stop = frontend_stop,
};

int main(int argc, char *argv[])
{
	return proc_main(argc, argv, &role);
}
