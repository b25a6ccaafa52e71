#include "net.h"

int main(int argc, char *argv[])
{
	return device_main(argc, argv, &net_ops);
}
