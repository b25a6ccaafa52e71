/*
 * Every message log, played to a net device: `echo` for the front-ends of a net device, a device
 * that makes up frames for those of a disk (they start one ring only, which for us receives).
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replay.h"
#include "rig.h"

#define GENERATED 200

static bool disk;

static const struct log_row {
	const char *name;
	uint32_t n_connections;
	bool moves;   /* its rings run */
	uint32_t saw; /* SAW_*: what its front-end does otherwise than others */
} net_logs[] = {
	{ "qemu72-tp-tap22", 1, true, SAW_ENABLE_FIRST },
	{ "qemu11-tp-tap22", 1, true, SAW_ENABLE_FIRST },
	{ "qemu11-passt", 1, true, SAW_ENABLE_FIRST },
	{ "qemu11-chv", 1, false, SAW_ENABLE_FIRST },
	{ "uml-chv", 1, true, SAW_SOCKET_CALL },
	{ "uml-passt", 1, true, SAW_SOCKET_CALL },
	/* it enables no ring: without PROTOCOL_FEATURES a ring that is started is enabled */
	{ "uml-tp-tap25", 1, true, SAW_SOCKET_CALL | SAW_FEATURES_DROPPED },
	{ "virtio_user22", 1, true, 0 },
	{ "virtio_user25", 1, true, 0 },
	{ "virtio_user25nohuge", 1, true, 0 },
	{ "virtio_user22packed_vq1", 1, true, SAW_HALF_BASE },
	{ "virtio_user25packed_vq1", 1, true, SAW_HALF_BASE },
	{ "virtio_user25multi", 1, false, 0 },
	{ "virtio_user25queues2", 1, true, 0 },
}, disk_logs[] = {
	{ "qemu72-blk", 1, true, 0 },
	{ "qemu11-blk", 1, true, 0 },
	{ "libblkio15", 2, true, SAW_REM_FD },
};

static void play(const struct log_row *row)
{
	static struct log_event events[LOG_MAX_EVENTS];
	static struct replay r;
	const char *source = getenv("BULKHEAD_SOURCE");
	uint32_t connections = 0;
	char path[512];
	int n, at = 0;

	snprintf(path, sizeof(path), "%s/tests/data/messages/%s.log", source ? source : ".",
		row->name);
	n = log_read(path, events, LOG_MAX_EVENTS);
	ck_assert_msg(n > 4, "%s: %d events", path, n);
	r = (struct replay){ .lax = rig.peer, .generated = disk ? GENERATED : 0 };
	while (at < n) {
		int played = replay_connection(&r, rig_socket(), events + at, (size_t)(n - at));

		ck_assert_msg(played > 0, "%s, event %d and after: %s", row->name, at, r.why);
		at += played;
		connections++;
	}
	ck_assert_uint_eq(connections, row->n_connections);
	ck_assert_msg(r.saw == row->saw, "%s: peculiarities %#x, wanted %#x", row->name, r.saw,
		row->saw);
	ck_assert_msg(!row->moves || r.n_frames, "%s: no frame was moved", row->name);
	if (!disk)
		rig_check_net0();
}

START_TEST(test_net_log)
{
	play(&net_logs[_i]);
}
END_TEST

START_TEST(test_disk_log)
{
	play(&disk_logs[_i]);
}
END_TEST

START_TEST(test_no_log_is_forgotten)
{
	const char *source = getenv("BULKHEAD_SOURCE");
	size_t n = 0;
	char path[512];
	DIR *dir;

	snprintf(path, sizeof(path), "%s/tests/data/messages", source ? source : ".");
	dir = opendir(path);
	ck_assert_ptr_nonnull(dir);
	for (struct dirent *d = readdir(dir); d; d = readdir(dir))
		n += strstr(d->d_name, ".log") != NULL;
	closedir(dir);
	ck_assert_uint_eq(n,
		sizeof(net_logs) / sizeof(net_logs[0]) + sizeof(disk_logs) / sizeof(disk_logs[0]));
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "replay");

	if (disk)
		tcase_add_loop_test(tc, test_disk_log, 0, sizeof(disk_logs) / sizeof(disk_logs[0]));
	else
		tcase_add_loop_test(tc, test_net_log, 0, sizeof(net_logs) / sizeof(net_logs[0]));
	tcase_add_test(tc, test_no_log_is_forgotten);
}

int main(int argc, char **argv)
{
	struct suite_device net0 = { .backend = "echo", .queue_pairs = 2 };

	disk = argc > 1 && !strcmp(argv[1], "disk");
	if (disk)
		net0 = (struct suite_device){ .backend = "null", .generate = GENERATED };
	return rig_main(disk ? "replay-disk" : "replay", &net0, add);
}
