#include "window.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

static int fail(struct window *w, int e, const char *what)
{
	snprintf(w->why, sizeof(w->why), "%s", what);
	return e;
}

int window_get_config(struct vu_client *c, struct vu_shmem_config *ret)
{
	struct vu_header head = { VU_GET_SHMEM_CONFIG, VU_VERSION, 0 };
	struct vu_msg msg;
	int r = vu_send(c, &head, NULL, NULL, 0);

	if (!r)
		r = vu_recv_reply(c, VU_GET_SHMEM_CONFIG, sizeof(*ret), &msg);
	if (r)
		return r;
	memcpy(ret, msg.body.bytes, sizeof(*ret));
	vu_msg_deinit(&msg);
	return 0;
}

static void *reserve(void *at, uint64_t n_bytes)
{
	return mmap(at, n_bytes, PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (at ? MAP_FIXED : 0), -1, 0);
}

int window_open(struct window *w, struct vu_client *c, uint32_t region)
{
	struct vu_shmem_config config;
	int r = window_get_config(c, &config);

	memset(w, 0, sizeof(*w));
	if (r)
		return fail(w, r, "GET_SHMEM_CONFIG");
	w->region = region;
	w->n_bytes = config.sizes[region];
	if (!w->n_bytes || w->n_bytes & (w->n_bytes - 1))
		return fail(w, -EINVAL, "the region's size is no power of two");
	w->mem = reserve(NULL, w->n_bytes);
	if (w->mem == MAP_FAILED)
		return fail(w, -errno, "mmap");
	return 0;
}

void window_close(struct window *w)
{
	if (w->mem)
		munmap(w->mem, w->n_bytes);
	w->mem = NULL;
}

void window_reset(struct window *w)
{
	reserve(w->mem, w->n_bytes);
	w->n_maps = 0;
}

/* --- Requests --- */

static int find(const struct window *w, const struct vu_shmem_map *map)
{
	for (size_t i = 0; i < w->n_maps; i++)
		if (w->maps[i].offset == map->offset && w->maps[i].size == map->size)
			return (int)i;
	return -1;
}

static bool overlaps(const struct window *w, const struct vu_shmem_map *map)
{
	for (size_t i = 0; i < w->n_maps; i++)
		if (map->offset < w->maps[i].offset + w->maps[i].size &&
			w->maps[i].offset < map->offset + map->size)
			return true;
	return false;
}

static bool is_inside(const struct window *w, const struct vu_shmem_map *map)
{
	return map->region == w->region && map->size && map->offset <= w->n_bytes &&
		map->size <= w->n_bytes - map->offset;
}

/* QEMU opens all for writing, whatever the flags say. */
static bool map_file(struct window *w, const struct vu_shmem_map *map, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || (uint64_t)st.st_size < map->fd_offset + map->size)
		return false;
	if (mmap(w->mem + map->offset, map->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		    fd, (off_t)map->fd_offset) != MAP_FAILED)
		return true;
	reserve(w->mem + map->offset, map->size);
	return false;
}

static int do_map(struct window *w, const struct vu_shmem_map *map, int fd)
{
	if (!is_inside(w, map) || overlaps(w, map) || w->n_maps == WINDOW_MAPS_MAX ||
		!map_file(w, map, fd)) {
		w->n_refused_maps++;
		return 1;
	}
	w->maps[w->n_maps].offset = map->offset;
	w->maps[w->n_maps++].size = map->size;
	w->n_mapped++;
	return 0;
}

static int do_unmap(struct window *w, const struct vu_shmem_map *map)
{
	int i = is_inside(w, map) ? find(w, map) : -1;

	if (i < 0) {
		w->n_refused_unmaps++;
		return 1;
	}
	reserve(w->mem + map->offset, map->size);
	w->maps[i] = w->maps[--w->n_maps];
	w->n_unmapped++;
	return 0;
}

int window_do(struct window *w, const struct vu_msg *msg)
{
	size_t n_fds = msg->head.request == VU_BACKEND_SHMEM_MAP;
	struct vu_shmem_map map;

	if (msg->head.request != VU_BACKEND_SHMEM_MAP &&
		msg->head.request != VU_BACKEND_SHMEM_UNMAP)
		return fail(w, -EPROTO, "another request");
	if (msg->head.flags != (VU_VERSION | VU_NEED_REPLY) || msg->head.size != sizeof(map) ||
		msg->n_fds != n_fds)
		return fail(w, -EPROTO, "its flags, size or descriptors are wrong");
	memcpy(&map, msg->body.bytes, sizeof(map));
	return n_fds ? do_map(w, &map, msg->fds[0]) : do_unmap(w, &map);
}

int window_serve(struct window *w, struct vu_client *c)
{
	struct vu_msg msg;
	int r = vu_backend_recv(c, &msg), value;

	if (r)
		return r;
	value = window_do(w, &msg);
	vu_msg_deinit(&msg);
	return value < 0 ? value : vu_backend_answer(c, msg.head.request, (uint64_t)value);
}

void *window_at(const struct window *w, uint64_t offset, uint64_t n_bytes)
{
	for (size_t i = 0; i < w->n_maps; i++)
		if (offset >= w->maps[i].offset && offset - w->maps[i].offset <= w->maps[i].size &&
			n_bytes <= w->maps[i].size - (offset - w->maps[i].offset))
			return w->mem + offset;
	return NULL;
}
