/*
 * wl-paint - a Wayland client that paints what a test can recognize
 *
 * Its window holds a pattern that is computed from the place of each pixel, and a counter: 32
 * squares in its first rows, white for 1, the lowest bit first. The counter is that of the frames;
 * it goes on whenever the compositor asks for the next one. Every buffer has a pool, and so a
 * descriptor, of its own. It says on stdout what came from the compositor.
 *
 *   --tiles N       N more buffers, each shown as a tile of its own below the counter; their
 *                   descriptors leave in as few messages as libwayland can make of them
 *   --still         the counter stays 0
 *   --keys          tells of the keymap and of each key
 *   --trips N       N round trips to the compositor first, and what they took
 */
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <wayland-client.h>

#include "xdg-shell-client-protocol.h"

#define WIDTH 320
#define HEIGHT 240
#define SQUARE 8
#define TILE_WIDTH 48
#define TILE_HEIGHT 32
#define TILES_A_ROW 6
#define MAX_TILES 36

struct picture {
	struct wl_buffer *buffer;
	uint32_t *pixels;
	uint32_t width, height;
};

static struct {
	struct wl_display *display;
	struct wl_compositor *compositor;
	struct wl_subcompositor *subcompositor;
	struct wl_shm *shm;
	struct wl_seat *seat;
	struct xdg_wm_base *shell;
	struct wl_surface *surface;
	struct picture pictures[2];
	uint32_t frame;
	bool configured, still, keys;
} it;

static void fail(const char *what)
{
	fprintf(stderr, "wl-paint: %s\n", what);
	exit(1);
}

/* Different in every pixel of every tile, and opaque. */
static uint32_t pattern(uint32_t x, uint32_t y, uint32_t tile)
{
	uint32_t v = (x + 1) * 0x9e3779b1u ^ (y + 1) * 0x85ebca6bu ^ (tile + 1) * 0xc2b2ae35u;

	return 0xff000000u | (v ^ v >> 15) >> 4;
}

static void paint(struct picture *picture, uint32_t tile)
{
	for (uint32_t y = 0; y < picture->height; y++)
		for (uint32_t x = 0; x < picture->width; x++)
			picture->pixels[y * picture->width + x] = pattern(x, y, tile);
}

static void paint_counter(struct picture *picture, uint32_t count)
{
	for (uint32_t y = 0; y < SQUARE; y++)
		for (uint32_t x = 0; x < 32 * SQUARE; x++)
			picture->pixels[y * picture->width + x] =
				count >> (x / SQUARE) & 1 ? 0xffffffffu : 0xff000000u;
}

static void make_picture(struct picture *picture, uint32_t width, uint32_t height)
{
	uint32_t n_bytes = width * height * 4;
	int fd = memfd_create("picture", MFD_CLOEXEC);
	struct wl_shm_pool *pool;

	if (fd < 0 || ftruncate(fd, n_bytes) < 0)
		fail("no memory");
	picture->width = width;
	picture->height = height;
	picture->pixels = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (picture->pixels == MAP_FAILED)
		fail("no memory");
	pool = wl_shm_create_pool(it.shm, fd, (int)n_bytes);
	picture->buffer = wl_shm_pool_create_buffer(pool, 0, (int)width, (int)height,
		(int)width * 4, WL_SHM_FORMAT_XRGB8888);
	wl_shm_pool_destroy(pool);
	close(fd);
}

static void show(struct wl_surface *surface, struct picture *picture)
{
	wl_surface_attach(surface, picture->buffer, 0, 0);
	wl_surface_damage(surface, 0, 0, (int)picture->width, (int)picture->height);
	wl_surface_commit(surface);
}

/* ---- frames ---- */

static void next_frame(void);

static void on_done(void *data, struct wl_callback *callback, uint32_t time)
{
	wl_callback_destroy(callback);
	printf("frame %u\n", it.frame);
	if (!it.still)
		it.frame++;
	next_frame();
}

static const struct wl_callback_listener on_frame = { on_done };

static void next_frame(void)
{
	struct picture *picture = &it.pictures[it.frame & 1];

	paint_counter(picture, it.frame);
	wl_callback_add_listener(wl_surface_frame(it.surface), &on_frame, NULL);
	show(it.surface, picture);
}

/* ---- the shell's ---- */

static void on_configure(void *data, struct xdg_surface *surface, uint32_t serial)
{
	xdg_surface_ack_configure(surface, serial);
	if (!it.configured)
		next_frame();
	it.configured = true;
}

static const struct xdg_surface_listener on_surface = { on_configure };

static void on_size(void *data, struct xdg_toplevel *top, int32_t width, int32_t height,
	struct wl_array *states)
{
}

static void on_close(void *data, struct xdg_toplevel *top)
{
	exit(0);
}

static const struct xdg_toplevel_listener on_top = { .configure = on_size, .close = on_close };

static void on_ping(void *data, struct xdg_wm_base *shell, uint32_t serial)
{
	xdg_wm_base_pong(shell, serial);
}

static const struct xdg_wm_base_listener on_shell = { on_ping };

/* ---- the keyboard ---- */

static void on_keymap(void *data, struct wl_keyboard *keyboard, uint32_t format, int fd,
	uint32_t n_bytes)
{
	uint8_t *map = mmap(NULL, n_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
	uint32_t sum = 0;

	if (map == MAP_FAILED)
		fail("the keymap cannot be mapped");
	for (uint32_t i = 0; i < n_bytes; i++)
		sum = sum * 31 + map[i];
	printf("keymap %u %08x\n", n_bytes, sum);
	munmap(map, n_bytes);
	close(fd);
}

static void on_enter(void *data, struct wl_keyboard *keyboard, uint32_t serial,
	struct wl_surface *surface, struct wl_array *keys)
{
	printf("enter\n");
}

static void on_leave(void *data, struct wl_keyboard *keyboard, uint32_t serial,
	struct wl_surface *surface)
{
	printf("leave\n");
}

static void on_key(void *data, struct wl_keyboard *keyboard, uint32_t serial, uint32_t time,
	uint32_t key, uint32_t state)
{
	printf("key %u %u\n", key, state);
}

static void on_modifiers(void *data, struct wl_keyboard *keyboard, uint32_t serial,
	uint32_t depressed, uint32_t latched, uint32_t locked, uint32_t group)
{
}

static const struct wl_keyboard_listener on_keyboard = {
	.keymap = on_keymap,
	.enter = on_enter,
	.leave = on_leave,
	.key = on_key,
	.modifiers = on_modifiers,
};

static void on_capabilities(void *data, struct wl_seat *seat, uint32_t capabilities)
{
	static struct wl_keyboard *keyboard;

	if (keyboard || !(capabilities & WL_SEAT_CAPABILITY_KEYBOARD))
		return;
	keyboard = wl_seat_get_keyboard(seat);
	wl_keyboard_add_listener(keyboard, &on_keyboard, NULL);
}

static const struct wl_seat_listener on_seat = { .capabilities = on_capabilities };

/* ---- start ---- */

static void on_global(void *data, struct wl_registry *registry, uint32_t name,
	const char *interface, uint32_t version)
{
	if (!strcmp(interface, "wl_compositor"))
		it.compositor = wl_registry_bind(registry, name, &wl_compositor_interface, 1);
	else if (!strcmp(interface, "wl_subcompositor"))
		it.subcompositor = wl_registry_bind(registry, name, &wl_subcompositor_interface, 1);
	else if (!strcmp(interface, "wl_shm"))
		it.shm = wl_registry_bind(registry, name, &wl_shm_interface, 1);
	else if (!strcmp(interface, "xdg_wm_base"))
		it.shell = wl_registry_bind(registry, name, &xdg_wm_base_interface, 1);
	else if (!strcmp(interface, "wl_seat") && it.keys)
		it.seat = wl_registry_bind(registry, name, &wl_seat_interface, 1);
}

static void on_global_remove(void *data, struct wl_registry *registry, uint32_t name)
{
}

static const struct wl_registry_listener on_registry = { on_global, on_global_remove };

static void connect_display(void)
{
	struct wl_registry *registry;

	it.display = wl_display_connect(NULL);
	if (!it.display)
		fail("no compositor");
	registry = wl_display_get_registry(it.display);
	wl_registry_add_listener(registry, &on_registry, NULL);
	wl_display_roundtrip(it.display);
	if (!it.compositor || !it.subcompositor || !it.shm || !it.shell)
		fail("the compositor lacks what this needs");
	xdg_wm_base_add_listener(it.shell, &on_shell, NULL);
	if (it.seat)
		wl_seat_add_listener(it.seat, &on_seat, NULL);
}

static void make_tiles(int n)
{
	static struct picture tiles[MAX_TILES];

	for (int i = 0; i < n; i++)
		make_picture(&tiles[i], TILE_WIDTH, TILE_HEIGHT);
	for (int i = 0; i < n; i++) {
		struct wl_surface *surface = wl_compositor_create_surface(it.compositor);
		struct wl_subsurface *sub =
			wl_subcompositor_get_subsurface(it.subcompositor, surface, it.surface);

		wl_subsurface_set_position(sub, i % TILES_A_ROW * (TILE_WIDTH + 2),
			2 * SQUARE + i / TILES_A_ROW * (TILE_HEIGHT + 2));
		paint(&tiles[i], (uint32_t)i + 1);
		show(surface, &tiles[i]);
	}
}

static void make_window(int n_tiles)
{
	struct xdg_surface *surface;
	struct xdg_toplevel *top;

	it.surface = wl_compositor_create_surface(it.compositor);
	make_tiles(n_tiles);
	for (int i = 0; i < 2; i++) {
		make_picture(&it.pictures[i], WIDTH, HEIGHT);
		paint(&it.pictures[i], 0);
	}
	surface = xdg_wm_base_get_xdg_surface(it.shell, it.surface);
	xdg_surface_add_listener(surface, &on_surface, NULL);
	top = xdg_surface_get_toplevel(surface);
	xdg_toplevel_add_listener(top, &on_top, NULL);
	xdg_toplevel_set_title(top, "wl-paint");
	wl_surface_commit(it.surface);
}

static void trips(int n)
{
	struct timespec from, to;
	double us;

	clock_gettime(CLOCK_MONOTONIC, &from);
	for (int i = 0; i < n; i++)
		if (wl_display_roundtrip(it.display) < 0)
			fail("the connection is lost");
	clock_gettime(CLOCK_MONOTONIC, &to);
	us = (double)(to.tv_sec - from.tv_sec) * 1e6 + (double)(to.tv_nsec - from.tv_nsec) / 1e3;
	printf("trips %d %.1f us each\n", n, us / n);
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "tiles", required_argument, NULL, 't' },
		{ "still", no_argument, NULL, 's' }, { "keys", no_argument, NULL, 'k' },
		{ "trips", required_argument, NULL, 'r' }, { 0 } };
	int n_tiles = 0, n_trips = 0, c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (c == 't')
			n_tiles = atoi(optarg);
		else if (c == 'r')
			n_trips = atoi(optarg);
		else if (c == 's')
			it.still = true;
		else if (c == 'k')
			it.keys = true;
		else
			return 2;
	}
	if (n_tiles > MAX_TILES)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	connect_display();
	if (n_trips)
		trips(n_trips);
	make_window(n_tiles);
	while (wl_display_dispatch(it.display) >= 0)
		;
	printf("the compositor is gone\n");
	return 3;
}
