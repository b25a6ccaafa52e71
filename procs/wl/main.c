#include "wl.h"

int main(int argc, char *argv[])
{
	return device_main(argc, argv, &wl_ops);
}
