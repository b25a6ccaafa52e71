#include "snapshot.h"

static const struct proc_role role = {
	.name = "snapshot",
	.start = snapshot_start,
	.stop = snapshot_stop,
};

int main(int argc, char *argv[])
{
	return proc_main(argc, argv, &role);
}
