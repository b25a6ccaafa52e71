/* The side link of memory: a process that serves two devices, and what its peers may ask of it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "fd/bell.h"
#include "fd/fdlink.h"
#include "lib/patience.h"
#include "lib/run.h"
#include "memory/links.h"
#include "virtq/locks.h"

#define LEDGER_BYTES 8192

static char dir[64];
static pid_t server;
static int notify_fd;
static struct vault_link *frontend, *worker, *other;

/* --- The serving process --- */

static void serve(void)
{
	static struct config_device configs[] = { { .name = (char *)"net0" },
		{ .name = (char *)"net0.b" } };
	static struct served devices[2];
	static struct blame_mark marks[2];
	static struct peer peers[3];
	static struct proc proc;
	static struct memory memory = {
		.proc = &proc, .devices = devices, .n_devices = 2, .peers = peers, .n_peers = 3
	};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	proc.runtime_dir = dir;
	ck_assert_int_ge(sd_event_new(&proc.event), 0);
	for (size_t i = 0; i < 2; i++) {
		devices[i].config = &configs[i];
		devices[i].mark = &marks[i];
		ck_assert_int_eq(served_open(&devices[i]), 0);
	}
	devices[0].desired->connected = true;
	peers[0] = (struct peer){ .name = (char *)"frontend", .role = role_find("frontend") };
	peers[1] = (struct peer){
		.name = configs[0].name, .role = role_find("net"), .device = &devices[0]
	};
	peers[2] = (struct peer){
		.name = configs[1].name, .role = role_find("net"), .device = &devices[1]
	};
	for (size_t i = 0; i < 3; i++) {
		peers[i].memory = &memory;
		peers[i].user = geteuid();
		ck_assert_int_eq(links_open(&peers[i]), 0);
	}
	sd_event_loop(proc.event);
	_exit(EXIT_FAILURE);
}

static struct vault_link *vault_to(const char *peer, const char *device)
{
	_cleanup_free_ char *path = NULL;
	struct fdset none = FDSET_INIT;
	struct vault_link *vault;

	ck_assert_int_gt(asprintf(&path, "%s/link/%s.sock", dir, peer), 0);
	ck_assert_int_eq(vault_new(&vault, path, device), 0);
	/* any answer shows that it was let in */
	ck_assert_int_eq(vault_redeem(vault, device ?: "net0", NULL, 0, &none), -EINVAL);
	return vault;
}

/* What memory stores is heard here. */
static void notify_open(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	char name[64];
	socklen_t n;

	snprintf(name, sizeof(name), "@bulkhead-links-%d", (int)getpid());
	snprintf(addr.sun_path + 1, sizeof(addr.sun_path) - 1, "%s", name + 1);
	notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(notify_fd, 0);
	n = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
	ck_assert_int_eq(bind(notify_fd, (struct sockaddr *)&addr, n), 0);
	ck_assert_int_eq(setenv("NOTIFY_SOCKET", name, 1), 0);
}

static bool stored_anything(void)
{
	char text[512];
	bool any = false;

	while (recv(notify_fd, text, sizeof(text), MSG_DONTWAIT) > 0)
		any = true;
	return any;
}

static void start(void)
{
	_cleanup_free_ char *sub = NULL;

	snprintf(dir, sizeof(dir), "/tmp/bulkhead-links-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_gt(asprintf(&sub, "%s/link", dir), 0);
	ck_assert_int_eq(mkdir(sub, 0700), 0);
	server = fork();
	ck_assert_int_ge(server, 0);
	if (server == 0)
		serve();
	frontend = vault_to("frontend", NULL);
	worker = vault_to("net0", "net0");
	other = vault_to("net0.b", "net0.b");
}

static void set_up(void)
{
	unsetenv("NOTIFY_SOCKET");
	notify_fd = -1;
	start();
}

/* Few messages fit its queue: a test must listen now and then. */
static void set_up_heard(void)
{
	notify_open();
	start();
}

static void tear_down(void)
{
	static const char *const paths[] = { "link/frontend.sock", "link/net0.sock",
		"link/net0.b.sock", "link", "" };

	frontend = vault_free(frontend);
	worker = vault_free(worker);
	other = vault_free(other);
	notify_fd = fd_close(notify_fd);
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		_cleanup_free_ char *path = NULL;

		ck_assert_int_gt(asprintf(&path, "%s/%s", dir, paths[i]), 0);
		ck_assert_int_eq(remove(path), 0);
	}
}

/* --- Helpers --- */

static int new_file(void)
{
	int fd = memfd_create("handed-over", MFD_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	return fd;
}

static ino_t inode(int fd)
{
	struct stat st;

	ck_assert_int_eq(fstat(fd, &st), 0);
	return st.st_ino;
}

static size_t n_server_fds(void)
{
	char path[64];
	size_t n = 0;
	DIR *list;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)server);
	list = opendir(path);
	ck_assert_ptr_nonnull(list);
	while (readdir(list))
		n++;
	closedir(list);
	return n;
}

/* What rode on a request is closed after the answer. */
static void check_server_fds(size_t n)
{
	for (int i = 0; n_server_fds() != n; i++) {
		ck_assert_msg(i < test_ms(10000), "%zu descriptors, not %zu", n_server_fds(), n);
		usleep(1000);
	}
}

static uint64_t deposit(const char *device, int fd)
{
	uint64_t token = 0;

	ck_assert_int_eq(vault_deposit(frontend, device, &fd, 1, &token), 0);
	ck_assert_uint_ne(token, 0);
	return token;
}

/* One request as it comes, with n descriptors; the error of its answer. The connection replaces the
 * peer's. */
static int raw_error(const char *peer, const Bh__Link *msg, size_t n)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_fdset_ struct fdset fds = FDSET_INIT, in = FDSET_INIT;
	_cleanup_close_ int fd = -1;
	Bh__Link *reply;
	int error;

	for (size_t i = 0; i < n; i++)
		fds.fds[fds.n_fds++] = new_file();
	ck_assert_int_gt(asprintf(&path, "%s/link/%s.sock", dir, peer), 0);
	fd = fdlink_connect(path);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fdlink_send(fd, msg, fds.fds, fds.n_fds), 0);
	ck_assert_int_eq(fdlink_recv(fd, &reply, &in), 0);
	error = reply->body_case == BH__LINK__BODY_FAILURE ? reply->failure->error : 0;
	ck_assert_uint_eq(error ? in.n_fds : 0, 0);
	bh__link__free_unpacked(reply, NULL);
	return error;
}

/* --- Tokens --- */

START_TEST(test_what_is_deposited_is_redeemed)
{
	_cleanup_close_ int a = new_file(), b = new_file();
	const int fds[2] = { a, b };
	_cleanup_fdset_ struct fdset got = FDSET_INIT, again = FDSET_INIT;
	uint64_t tokens[2], turned[2];

	ck_assert_int_eq(vault_deposit(frontend, "net0", fds, 2, tokens), 0);
	ck_assert_uint_ne(tokens[0], tokens[1]);
	ck_assert_int_eq(vault_redeem(worker, "net0", tokens, 2, &got), 0);
	ck_assert_uint_eq(inode(got.fds[0]), inode(a));
	ck_assert_uint_eq(inode(got.fds[1]), inode(b));
	ck_assert_int_eq(fcntl(got.fds[0], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	turned[0] = tokens[1];
	turned[1] = tokens[0];
	ck_assert_int_eq(vault_redeem(frontend, "net0", turned, 2, &again), 0);
	ck_assert_uint_eq(inode(again.fds[0]), inode(b));
}
END_TEST

START_TEST(test_most_descriptors_that_fit_one_packet)
{
	_cleanup_close_ int fd = new_file();
	_cleanup_fdset_ struct fdset got = FDSET_INIT;
	uint64_t tokens[FDLINK_FDS_MAX + 1];
	int fds[FDLINK_FDS_MAX + 1];

	for (size_t i = 0; i <= FDLINK_FDS_MAX; i++)
		fds[i] = fd;
	ck_assert_int_eq(vault_deposit(frontend, "net0", fds, FDLINK_FDS_MAX + 1, tokens),
		-EMSGSIZE);
	ck_assert_int_eq(vault_deposit(frontend, "net0", fds, FDLINK_FDS_MAX, tokens), 0);
	ck_assert_int_eq(vault_redeem(worker, "net0", tokens, FDLINK_FDS_MAX, &got), 0);
	fdset_deinit(&got);
	tokens[FDLINK_FDS_MAX] = tokens[0];
	ck_assert_int_eq(vault_redeem(worker, "net0", tokens, FDLINK_FDS_MAX + 1, &got), -EINVAL);
}
END_TEST

/* covers: P5 */
START_TEST(test_token_of_another_device_is_not_redeemed)
{
	_cleanup_close_ int fd = new_file();
	_cleanup_fdset_ struct fdset got = FDSET_INIT;
	uint64_t token = deposit("net0", fd), wrong = token + 1;

	ck_assert_int_eq(vault_redeem(other, "net0", &token, 1, &got), -ENOENT);
	ck_assert_int_eq(vault_redeem(other, "net0.b", &token, 1, &got), -ENOENT);
	ck_assert_int_eq(vault_redeem(worker, "net0", &wrong, 1, &got), -ENOENT);
	ck_assert_int_eq(vault_redeem(worker, "net7", &token, 1, &got), -ENOENT);
	ck_assert_uint_eq(got.n_fds, 0);
}
END_TEST

/* covers: P5 */
START_TEST(test_deposit_for_no_device_leaves_nothing)
{
	_cleanup_close_ int fd = new_file();
	size_t before = n_server_fds();
	uint64_t token;

	ck_assert_int_eq(vault_deposit(frontend, "net7", &fd, 1, &token), -ENOENT);
	ck_assert_int_eq(vault_deposit(worker, "net0.b", &fd, 1, &token), -ENOENT);
	check_server_fds(before);
}
END_TEST

/* The worker's own stay until its link ends, where no report has named them. */
START_TEST(test_deposit_of_a_vmm_that_has_left_leaves_nothing)
{
	int fd = memfd_create("x", MFD_CLOEXEC);
	uint64_t token;

	(void)stored_anything();
	ck_assert_int_eq(vault_deposit(frontend, "net0.b", &fd, 1, &token), -ENOTCONN);
	ck_assert(!stored_anything());
	close(fd);
}
END_TEST

START_TEST(test_worker_may_deposit_for_its_own_device)
{
	_cleanup_close_ int fd = new_file();
	_cleanup_fdset_ struct fdset got = FDSET_INIT;
	size_t before = n_server_fds();
	uint64_t token;

	ck_assert_int_eq(vault_deposit(worker, "net0", &fd, 1, &token), 0);
	ck_assert_int_eq(vault_redeem(worker, "net0", &token, 1, &got), 0);
	ck_assert_uint_eq(inode(got.fds[0]), inode(fd));
	ck_assert_int_eq(vault_redeem(other, "net0", &token, 1, &got), -ENOENT);
	worker = vault_free(worker);
	worker = vault_to("net0", "net0");
	ck_assert_int_eq(vault_redeem(worker, "net0", &token, 1, &got), -ENOENT);
	check_server_fds(before);
}
END_TEST

/* --- Attachment --- */

START_TEST(test_attachment_holds_record_ledger_and_what_was_kept)
{
	struct vault_attachment first, second;
	_cleanup_close_ int tap = new_file();

	ck_assert_int_eq(vault_attach(worker, LEDGER_BYTES, &first), 0);
	ck_assert_uint_eq(first.n_kept, 0);
	ck_assert_int_eq(fcntl(first.record_fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	ck_assert_int_eq(vault_keep(worker, "tap.0", tap), 0);
	ck_assert_int_eq(vault_attach(worker, LEDGER_BYTES, &second), 0);
	ck_assert_uint_eq(inode(first.record_fd), inode(second.record_fd));
	ck_assert_uint_eq(inode(first.ledger_fd), inode(second.ledger_fd));
	ck_assert_uint_eq(second.n_kept, 1);
	ck_assert_str_eq(second.kept_names[0], "tap.0");
	ck_assert_uint_eq(inode(second.kept_fds[0]), inode(tap));
	vault_attachment_deinit(&first);
	vault_attachment_deinit(&second);
}
END_TEST

START_TEST(test_kept_name_is_replaced_and_dropped)
{
	struct vault_attachment attachment;
	_cleanup_close_ int a = new_file(), b = new_file();
	size_t before;

	ck_assert_int_eq(vault_attach(worker, LEDGER_BYTES, &attachment), 0);
	vault_attachment_deinit(&attachment);
	ck_assert_int_eq(vault_unkeep(worker, "tap.0"),
		0); /* by now what attaching needed is closed */
	before = n_server_fds();
	ck_assert_int_eq(vault_keep(worker, "tap.0", a), 0);
	ck_assert_int_eq(vault_keep(worker, "tap.1", b), 0);
	ck_assert_int_eq(vault_keep(worker, "tap.0", b), 0);
	ck_assert_int_eq(vault_attach(worker, LEDGER_BYTES, &attachment), 0);
	ck_assert_uint_eq(attachment.n_kept, 2);
	for (size_t i = 0; i < 2; i++)
		ck_assert_uint_eq(inode(attachment.kept_fds[i]), inode(b));
	vault_attachment_deinit(&attachment);
	ck_assert_int_eq(vault_unkeep(worker, "tap.0"), 0);
	ck_assert_int_eq(vault_unkeep(worker, "tap.1"), 0);
	ck_assert_int_eq(vault_unkeep(worker, "tap.1"), 0);
	check_server_fds(before);
}
END_TEST

START_TEST(test_same_file_under_its_name_stays_where_it_is)
{
	_cleanup_close_ int a = new_file(), b = new_file();

	(void)stored_anything();
	ck_assert_int_eq(vault_keep(worker, "tap.0", a), 0);
	ck_assert(stored_anything());
	ck_assert_int_eq(vault_keep(worker, "tap.0", a), 0);
	ck_assert(!stored_anything());
	ck_assert_int_eq(vault_keep(worker, "tap.0", b), 0);
	ck_assert(stored_anything());
}
END_TEST

/* In pages: a packet carries 64. */
START_TEST(test_all_that_is_kept_comes_with_an_attachment)
{
	struct vault_attachment attachment;
	_cleanup_close_ int fd = new_file();
	char name[16];
	size_t n = 0;
	int r;

	do {
		snprintf(name, sizeof(name), "queue.%zu", n);
		r = vault_keep(worker, name, fd);
		n += r == 0;
		if (r < 0 || n == FDLINK_FDS_MAX - 2 || n == FDLINK_FDS_MAX - 1 ||
			n == 2 * FDLINK_FDS_MAX - 2) {
			ck_assert_int_eq(vault_attach(worker, LEDGER_BYTES, &attachment), 0);
			ck_assert_uint_eq(attachment.n_kept, n);
			for (size_t i = 0; i < n; i++)
				ck_assert_uint_eq(inode(attachment.kept_fds[i]), inode(fd));
			vault_attachment_deinit(&attachment);
		}
	} while (r == 0);
	ck_assert_int_eq(r, -ENOSPC);
	ck_assert_uint_eq(n, VAULT_NAMED_MAX);
	/* and one that is there already may still be replaced */
	ck_assert_int_eq(vault_keep(worker, "queue.0", fd), 0);
}
END_TEST

START_TEST(test_names_that_are_none_are_refused)
{
	static const char *const names[] = { "", "a:b", "a/b", "a@b", "a\nb", ".a",
		"a-name-of-more-than-thirty-two-characters" };
	_cleanup_close_ int fd = new_file();
	size_t before = n_server_fds();

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		ck_assert_int_eq(vault_keep(worker, names[i], fd), -EINVAL);
	check_server_fds(before);
}
END_TEST

/* --- Locks --- */

/* A process that attaches and makes of the locks whatever it likes; with hold it stays, until it is
 * killed. */
static pid_t start_vandal(uint8_t byte, bool hold)
{
	int ready[2];
	pid_t pid;
	char c;

	ck_assert_int_eq(pipe(ready), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		_cleanup_free_ char *path = NULL;
		struct vault_attachment attachment;
		struct vault_link *vault;
		uint8_t *page;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (asprintf(&path, "%s/link/net0.sock", dir) < 0 ||
			vault_new(&vault, path, "net0") < 0 ||
			vault_attach(vault, LEDGER_BYTES, &attachment) < 0)
			_exit(1);
		page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, attachment.ledger_fd,
			0);
		memset(page + LEDGER_LOCKS_AT, byte, 4096 - LEDGER_LOCKS_AT);
		(void)!write(ready[1], "x", 1);
		if (hold)
			for (;;)
				pause();
		_exit(0);
	}
	close(ready[1]);
	ck_assert_int_eq(read(ready[0], &c, 1), 1);
	close(ready[0]);
	return pid;
}

/* Whether this process finds locks that it can take. */
static bool locks_are_free(void)
{
	struct vault_attachment attachment;
	struct ledger_locks *locks;
	bool taken = false;

	ck_assert_int_eq(vault_attach(worker, LEDGER_BYTES, &attachment), 0);
	if (ledger_locks_open(&locks, attachment.ledger_fd) == 0) {
		taken = ledger_lock_try(locks, LOCK_SERVE);
		if (taken)
			ledger_lock_drop(locks, LOCK_SERVE);
		ledger_locks_close(locks);
	}
	vault_attachment_deinit(&attachment);
	return taken;
}

#define N_SPOILT 4

/* _i: what they are filled with */
START_TEST(test_spoilt_locks_do_not_outlive_who_spoilt_them)
{
	static const uint8_t bytes[N_SPOILT] = { 0, 1, 0x80, 0xff };
	pid_t pid = start_vandal(bytes[_i], false);

	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	ck_assert(locks_are_free());
	ck_assert(locks_are_free());
}
END_TEST

START_TEST(test_locks_stay_as_they_are_while_anybody_may_hold_one)
{
	pid_t pid = start_vandal(0xff, true);

	ck_assert(!locks_are_free());
	kill(pid, SIGKILL);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	ck_assert(!locks_are_free()); /* this process might hold one itself */
	pid = start_vandal(0xff, false);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	ck_assert(!locks_are_free());
}
END_TEST

/* --- What the peer gets wrong --- */

/* covers: P1 */
START_TEST(test_request_with_a_wrong_number_of_descriptors_is_refused)
{
	Bh__Deposit deposits = BH__DEPOSIT__INIT;
	Bh__Redeem redeem = BH__REDEEM__INIT;
	Bh__Attach attach = BH__ATTACH__INIT;
	Bh__Keep keep = BH__KEEP__INIT;
	Bh__Unkeep unkeep = BH__UNKEEP__INIT;
	const Bh__Link links[] = {
		{ .body_case = BH__LINK__BODY_ATTACH, .attach = &attach },
		{ .body_case = BH__LINK__BODY_KEEP, .keep = &keep },
		{ .body_case = BH__LINK__BODY_REDEEM, .redeem = &redeem },
		{ .body_case = BH__LINK__BODY_UNKEEP, .unkeep = &unkeep },
	};
	Bh__Link msg = BH__LINK__INIT;
	size_t before = n_server_fds();

	attach.device = redeem.device = keep.device = unkeep.device = deposits.device =
		(char *)"net0";
	keep.name = unkeep.name = (char *)"tap.0";
	attach.ledger_bytes = LEDGER_BYTES;
	msg.body_case = BH__LINK__BODY_DEPOSIT;
	msg.deposit = &deposits;
	deposits.n_fds = 0;
	ck_assert_int_eq(raw_error("frontend", &msg, 0), EBADMSG);
	deposits.n_fds = 3;
	ck_assert_int_eq(raw_error("frontend", &msg, 2), EBADMSG);
	for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
		msg.body_case = links[i].body_case;
		msg.attach = links[i].attach; /* a union of pointers */
		ck_assert_int_eq(raw_error("net0", &msg, FDLINK_FDS_MAX), EBADMSG);
	}
	msg.body_case = BH__LINK__BODY_KEEP;
	msg.keep = &keep;
	ck_assert_int_eq(raw_error("net0", &msg, 0), EBADMSG);
	check_server_fds(before -
		2); /* the peers' connections gave way to ours, which have ended */
}
END_TEST

/* What the frontend lets nobody hand over comes from a process that was taken over, whatever it is
 * said to be. */
START_TEST(test_foreign_descriptor_ends_the_link_of_its_sender)
{
	_cleanup_close_ int foreign = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
			    file = new_file();
	const struct timespec tick = { .tv_nsec = 1000000 };
	Bh__Link *reply;

	for (int i = 0; i < 3; i++) {
		_cleanup_fdset_ struct fdset in = FDSET_INIT;
		_cleanup_free_ char *path = NULL;
		_cleanup_close_ int fd = -1;
		Bh__Deposit body = BH__DEPOSIT__INIT;
		Bh__Greet greet = BH__GREET__INIT;
		Bh__Link msg = BH__LINK__INIT;
		int r;

		msg.body_case = i == 2 ? BH__LINK__BODY_GREET : BH__LINK__BODY_DEPOSIT;
		if (i == 2)
			msg.greet = &greet;
		else
			msg.deposit = &body;
		body.device = (char *)(i ? "net7" : "net0");
		body.n_fds = 1;
		ck_assert_int_gt(asprintf(&path, "%s/link/frontend.sock", dir), 0);
		fd = fdlink_connect(path);
		ck_assert_int_ge(fd, 0);
		ck_assert_int_eq(fdlink_send(fd, &msg, &foreign, 1), 0);
		while ((r = fdlink_recv(fd, &reply, &in)) == -EAGAIN)
			nanosleep(&tick, NULL);
		ck_assert_int_eq(r, -ECONNRESET);
	}
	ck_assert_int_eq(vault_keep(worker, "tap.0", file), 0);
	ck_assert_uint_ne(deposit("net0", file), 0); /* it connects again by itself */
}
END_TEST

START_TEST(test_second_bell_takes_the_place_of_the_first)
{
	int first, second;

	ck_assert_int_eq(vault_bell(worker, &first), 0);
	ck_assert_int_eq(bell_hear(first), 0);
	ck_assert_int_eq(vault_bell(worker, &second), 0);
	ck_assert_int_eq(bell_hear(first), -ECONNRESET);
	ck_assert_int_eq(bell_hear(second), 0);
	ck_assert_int_eq(vault_bell(frontend, &first), -EPERM);
	close(second);
}
END_TEST

/* covers: P1 */
START_TEST(test_what_is_no_request_is_refused)
{
	Bh__KeepReply reply = BH__KEEP_REPLY__INIT;
	Bh__Link msg = BH__LINK__INIT;

	msg.body_case = BH__LINK__BODY_KEEP_REPLY;
	msg.keep_reply = &reply;
	ck_assert_int_eq(raw_error("net0", &msg, 1), EOPNOTSUPP);
}
END_TEST

/* covers: P1 */
START_TEST(test_garbage_ends_that_connection_alone)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_close_ int fd = -1, file = new_file();
	char byte;

	ck_assert_int_gt(asprintf(&path, "%s/link/net0.sock", dir), 0);
	fd = fdlink_connect(path);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(send(fd, "\xff\xff\xff\xff", 4, MSG_NOSIGNAL), 4);
	ck_assert_int_eq(recv(fd, &byte, 1, 0), 0);
	ck_assert_int_eq(vault_keep(other, "tap.0", file), 0);
	ck_assert_int_eq(vault_keep(worker, "tap.0", file), 0); /* connects again by itself */
}
END_TEST

/* covers: P3 */
START_TEST(test_client_waits_for_memory_to_come_back)
{
	_cleanup_close_ int fd = new_file();
	_cleanup_fdset_ struct fdset got = FDSET_INIT;
	uint64_t token = deposit("net0", fd);

	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
	server = fork();
	ck_assert_int_ge(server, 0);
	if (server == 0)
		serve();
	/* this memory lost everything: it answers, and knows of nothing */
	ck_assert_int_eq(vault_redeem(worker, "net0", &token, 1, &got), -ENOENT);
	ck_assert_uint_ne(deposit("net0", fd), token);
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("links");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_what_is_deposited_is_redeemed);
	tcase_add_test(tc, test_most_descriptors_that_fit_one_packet);
	tcase_add_test(tc, test_token_of_another_device_is_not_redeemed);
	tcase_add_test(tc, test_deposit_for_no_device_leaves_nothing);
	tcase_add_test(tc, test_deposit_of_a_vmm_that_has_left_leaves_nothing);
	tcase_add_test(tc, test_worker_may_deposit_for_its_own_device);
	tcase_add_test(tc, test_attachment_holds_record_ledger_and_what_was_kept);
	tcase_add_test(tc, test_kept_name_is_replaced_and_dropped);
	tcase_add_test(tc, test_all_that_is_kept_comes_with_an_attachment);
	tcase_add_test(tc, test_names_that_are_none_are_refused);
	tcase_add_test(tc, test_request_with_a_wrong_number_of_descriptors_is_refused);
	tcase_add_loop_test(tc, test_spoilt_locks_do_not_outlive_who_spoilt_them, 0, N_SPOILT);
	tcase_add_test(tc, test_locks_stay_as_they_are_while_anybody_may_hold_one);
	tcase_add_test(tc, test_foreign_descriptor_ends_the_link_of_its_sender);
	tcase_add_test(tc, test_second_bell_takes_the_place_of_the_first);
	tcase_add_test(tc, test_what_is_no_request_is_refused);
	tcase_add_test(tc, test_garbage_ends_that_connection_alone);
	tcase_add_test(tc, test_client_waits_for_memory_to_come_back);
	suite_add_tcase(suite, tc);
	tc = tcase_create("stored");
	tcase_add_checked_fixture(tc, set_up_heard, tear_down);
	tcase_add_test(tc, test_same_file_under_its_name_stays_where_it_is);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("links", add_tests);
}
