/*
 * wl-proxy - Wayland clients of a guest that is our front-end, on the host's compositor
 *
 * wl-proxy [--no-map] [--verbose] SOCKET-OF-THE-DEVICE SOCKET-FOR-CLIENTS[=NAME] ...
 *
 * As its namesake in tests/system/guest, without a guest.
 */
#include <stdio.h>
#include <string.h>

#include "wl-front.h"
#include "wl-proxy.h"

static struct wl_front front;

static int run(const char *device, struct wl_proxy *proxy, char **paths)
{
	int r = wl_front_open(&front, device);

	proxy->link = &front.link;
	while (!r && *paths)
		r = wl_proxy_listen(proxy, *paths++);
	if (r)
		return r;
	printf("serves\n");
	fflush(stdout);
	return wl_proxy_run(proxy);
}

int main(int argc, char **argv)
{
	struct wl_proxy proxy = { 0 };
	int r;

	for (; argc > 1 && argv[1][0] == '-'; argc--, argv++) {
		front.no_map |= !strcmp(argv[1], "--no-map");
		proxy.verbose |= !strcmp(argv[1], "--verbose");
	}
	if (argc < 3)
		return 2;
	r = run(argv[1], &proxy, argv + 2);
	fprintf(stderr, "wl-proxy: %d: %s\n", r, front.why);
	wl_front_close(&front);
	return 1;
}
