/* What came from the host: judged without asking anybody, and never passed on if it is foreign. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "lib/patience.h"
#include "lib/run.h"
#include "lib/stranger.h"
#include "received.h"

static int memory(size_t n_bytes, int seals)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	ck_assert_int_eq(ftruncate(fd, (off_t)n_bytes), 0);
	ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static struct received judge(int *fd)
{
	struct received received;

	received_judge(fd, &received);
	return received;
}

START_TEST(test_memory_has_its_size)
{
	int fd = memory(5000, 0);
	struct received received;

	ck_assert_int_eq(lseek(fd, 17, SEEK_SET), 17);
	received = judge(&fd);
	ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), 17); /* the sender's position */
	ck_assert_int_eq(received.kind, RECEIVED_MEMORY);
	ck_assert_uint_eq(received.size_bytes, 5000);
	ck_assert(received.readable && received.writable);
	close(fd);
}
END_TEST

static const int write_seals[] = { F_SEAL_WRITE, F_SEAL_FUTURE_WRITE };

START_TEST(test_sealed_memory_is_not_writable)
{
	int fd = memory(4096, write_seals[_i] | F_SEAL_SHRINK);

	ck_assert(!judge(&fd).writable);
	close(fd);
}
END_TEST

START_TEST(test_readonly_memory_is_not_writable)
{
	int fd = memory(4096, 0), again;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDONLY | O_CLOEXEC);
	ck_assert(judge(&fd).writable);
	ck_assert(!judge(&again).writable);
	close(fd);
	close(again);
}
END_TEST

START_TEST(test_streams_are_told_apart)
{
	int ends[2], pair[2];
	struct received received;

	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	received = judge(&ends[0]);
	ck_assert_int_eq(received.kind, RECEIVED_PIPE);
	ck_assert(received.readable && !received.writable);
	received = judge(&ends[1]);
	ck_assert(!received.readable && received.writable);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	ck_assert_int_eq(judge(&pair[0]).kind, RECEIVED_SOCKET);
}
END_TEST

static void check_dead_pipe(int fd)
{
	char byte;

	ck_assert_int_ge(fcntl(fd, F_GETPIPE_SZ), 0);
	ck_assert_int_eq(read(fd, &byte, 1), 0);
	close(fd);
}

START_TEST(test_a_foreign_one_is_replaced)
{
	int event = eventfd(0, EFD_CLOEXEC), folder = open("/tmp", O_RDONLY | O_CLOEXEC);

	ck_assert_int_eq(judge(&event).kind, RECEIVED_FOREIGN);
	check_dead_pipe(event);
	ck_assert_int_eq(judge(&folder).kind, RECEIVED_FOREIGN);
	check_dead_pipe(folder);
}
END_TEST

/* covers: M8 */
START_TEST(test_a_file_server_that_hangs_holds_nobody_up)
{
	struct stranger *stranger = stranger_fuse();
	int fds[40];

	if (!stranger) {
		printf("# SKIP: no FUSE\n");
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = fcntl(stranger_fd(stranger), F_DUPFD_CLOEXEC, 0);
	stranger_hang(stranger, true);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		ck_assert_int_eq(judge(&fds[i]).kind, RECEIVED_FOREIGN);
		check_dead_pipe(fds[i]);
	}
	stranger_free(stranger);
}
END_TEST

START_TEST(test_a_copy_has_whole_pages)
{
	static char bytes[20000];
	int fd = memory(0, 0), copy;
	struct stat st;

	memset(bytes, 'k', sizeof(bytes));
	ck_assert_int_eq(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
	ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK), 0);
	copy = received_copy(fd, sizeof(bytes));
	ck_assert_int_ge(copy, 0);
	ck_assert_int_eq(fstat(copy, &st), 0);
	ck_assert_int_eq(st.st_size, 20480);
	memset(bytes, 0, sizeof(bytes));
	ck_assert_int_eq(pread(copy, bytes, sizeof(bytes), 0), sizeof(bytes));
	ck_assert(bytes[0] == 'k' && bytes[sizeof(bytes) - 1] == 'k');
	ck_assert_int_eq(received_copy(fd, RECEIVED_COPY_MAX + 1), -EFBIG);
	close(copy);
	copy = received_copy(fd, 50000); /* it has become shorter meanwhile */
	ck_assert_int_eq(fstat(copy, &st), 0);
	ck_assert_int_eq(st.st_size, 53248);
	close(copy);
	close(fd);
}
END_TEST

static void add(Suite *suite)
{
	TCase *tcase = tcase_create("received");

	tcase_set_timeout(tcase, test_ms(30000) / 1000.0);
	tcase_add_test(tcase, test_memory_has_its_size);
	tcase_add_loop_test(tcase, test_sealed_memory_is_not_writable, 0, ARRAY_SIZE(write_seals));
	tcase_add_test(tcase, test_readonly_memory_is_not_writable);
	tcase_add_test(tcase, test_streams_are_told_apart);
	tcase_add_test(tcase, test_a_foreign_one_is_replaced);
	tcase_add_test(tcase, test_a_file_server_that_hangs_holds_nobody_up);
	tcase_add_test(tcase, test_a_copy_has_whole_pages);
	suite_add_tcase(suite, tcase);
}

int main(void)
{
	return run_main("wl-received", add);
}
