/*
 * wl-proxy - a Wayland socket in a guest, whose clients appear on the host's compositor
 *
 * wl-proxy [--no-map] [--verbose] VIRTIO-ID SOCKET[=NAME] ...
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../lib/wl-proxy.h"
#include "wl-pci.h"

static struct wl_proxy proxy;

/* What this process has as memory is the next one's in a moment. */
static void on_term(int number)
{
	wl_pci_reset(proxy.link);
	_exit(0);
}

int main(int argc, char **argv)
{
	bool no_map = false;
	int r;

	for (; argc > 1 && argv[1][0] == '-'; argc--, argv++) {
		no_map |= !strcmp(argv[1], "--no-map");
		proxy.verbose |= !strcmp(argv[1], "--verbose");
	}
	if (argc < 3)
		return 2;
	proxy.link = wl_pci_open((unsigned int)atoi(argv[1]), no_map);
	if (!proxy.link)
		return 1;
	signal(SIGTERM, on_term);
	for (int i = 2; i < argc; i++)
		if (wl_proxy_listen(&proxy, argv[i]) < 0)
			return 1;
	printf("serves\n");
	fflush(stdout);
	r = wl_proxy_run(&proxy);
	fprintf(stderr, "wl-proxy: the device fails: %d\n", r);
	return 1;
}
