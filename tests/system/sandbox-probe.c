/*
 * Tries what a process may no longer do: sandbox-probe ROLE [PROBE]. It restricts itself as the
 * process of that role does, with the same code, and tries each probe in a process of its own. A
 * line for each says "NAME yes" or "NAME no"; no is what the filter or landlock answers. ROLE none
 * tries without a sandbox: a probe that root is refused there as well would prove nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "proc/landlock.h"
#include "proc/sandbox.h"

static long make(int family)
{
	return socket(family, SOCK_DGRAM, 0);
}

static long map(int protection)
{
	return mmap(NULL, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1
											      : 0;
}

/* The test's own parent is alive, and belongs to root. */
static long tell_parent(void)
{
	return syscall(SYS_tgkill, getppid(), getppid(), 0);
}

static long fork_it(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	return pid;
}

static long spawn(unsigned long flags)
{
	long pid = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);

	if (pid == 0)
		_exit(0);
	return pid;
}

#define CALL_OF(...) syscall(__VA_ARGS__)

/* Arguments are such that nothing happens where a call is let through: it fails for another
 * reason. */
#define PROBES                                                                                     \
	PROBE(execute, CALL_OF(SYS_execve, "", NULL, NULL))                                        \
	PROBE(fork, fork_it())                                                                     \
	PROBE(vfork, spawn(CLONE_VFORK))                                                           \
	PROBE(user_namespace, spawn(CLONE_NEWUSER))                                                \
	PROBE(unshare, CALL_OF(SYS_unshare, CLONE_FS))                                             \
	PROBE(enter_namespace, CALL_OF(SYS_setns, -1, 0))                                          \
	PROBE(mount, CALL_OF(SYS_mount, "", "", "", 0, NULL))                                      \
	PROBE(new_mount, CALL_OF(SYS_fsopen, "no", 0))                                             \
	PROBE(change_root, CALL_OF(SYS_chroot, ""))                                                \
	PROBE(change_user, CALL_OF(SYS_setresuid, -1, -1, -1))                                     \
	PROBE(gain_capability, CALL_OF(SYS_capset, NULL, NULL))                                    \
	PROBE(trace, CALL_OF(SYS_ptrace, PTRACE_PEEKUSER, -1, NULL, NULL))                         \
	PROBE(read_memory, CALL_OF(SYS_process_vm_readv, -1, NULL, 0, NULL, 0, 1))                 \
	PROBE(take_descriptor, CALL_OF(SYS_pidfd_getfd, -1, 0, 0))                                 \
	PROBE(signal_others, tell_parent())                                                        \
	PROBE(executable_memory, map(PROT_READ | PROT_EXEC))                                       \
	PROBE(make_executable, mprotect(NULL, 4096, PROT_READ | PROT_EXEC))                        \
	PROBE(socket_unix, make(AF_UNIX))                                                          \
	PROBE(socket_netlink, make(AF_NETLINK))                                                    \
	PROBE(socket_inet, make(AF_INET))                                                          \
	PROBE(socket_inet6, make(AF_INET6))                                                        \
	PROBE(socket_packet, make(AF_PACKET))                                                      \
	PROBE(tap_ioctl, ioctl(-1, TUNGETIFF, NULL))                                               \
	PROBE(terminal_input, ioctl(-1, TIOCSTI, ""))                                              \
	PROBE(load_module, CALL_OF(SYS_finit_module, -1, "", 0))                                   \
	PROBE(bpf, CALL_OF(SYS_bpf, -1, NULL, 0))                                                  \
	PROBE(perf, CALL_OF(SYS_perf_event_open, NULL, 0, 0, -1, 0))                               \
	PROBE(io_uring, CALL_OF(SYS_io_uring_setup, 0, NULL))                                      \
	PROBE(userfaultfd, CALL_OF(SYS_userfaultfd, -1))                                           \
	PROBE(keyring, CALL_OF(SYS_keyctl, -1))                                                    \
	PROBE(open_by_handle, CALL_OF(SYS_open_by_handle_at, -1, "", 0))                           \
	PROBE(system_v_ipc, CALL_OF(SYS_shmget, 0, 0, 0))                                          \
	PROBE(set_clock, CALL_OF(SYS_clock_settime, -1, NULL))                                     \
	PROBE(host_name, CALL_OF(SYS_sethostname, "", -1))                                         \
	PROBE(kernel_log, CALL_OF(SYS_syslog, -1, NULL, 0))                                        \
	PROBE(personality, CALL_OF(SYS_personality, 0xffffffff))                                   \
	PROBE(make_device, CALL_OF(SYS_mknodat, -1, "", 0, 0))                                     \
	PROBE(link, CALL_OF(SYS_linkat, -1, "", -1, "", 0))                                        \
	PROBE(write_file, open("/dev/null", O_WRONLY | O_CLOEXEC))                                 \
	PROBE(open_tap, open("/dev/net/tun", O_RDWR | O_CLOEXEC))                                  \
	PROBE(real_time, CALL_OF(SYS_sched_setscheduler, 0, -1, NULL))

#define PROBE(name, call)                                                                          \
	static long try_##name(void)                                                               \
	{                                                                                          \
		return call;                                                                       \
	}
PROBES
#undef PROBE

static const struct probe {
	const char *name;
	long (*run)(void);
} probes[] = {
#define PROBE(name, call) { #name, try_##name },
	PROBES
#undef PROBE
};

__attribute__((noreturn)) static void run(const struct probe *probe, const char *role)
{
	if (strcmp(role, "none") != 0) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
			_exit(2);
		landlock_restrict(role, NULL);
		if (sandbox_load(role) < 0)
			_exit(2);
	}
	errno = 0;
	_exit(probe->run() < 0 && (errno == EPERM || errno == EACCES) ? 1 : 0);
}

static const char *answer(const struct probe *probe, const char *role)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0)
		run(probe, role);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return "cannot be tried";
	if (WIFSIGNALED(status))
		return WTERMSIG(status) == SIGSYS ? "killed" : "crashed";
	return WEXITSTATUS(status) == 0 ? "yes" : WEXITSTATUS(status) == 1 ? "no" : "no sandbox";
}

int main(int argc, char *argv[])
{
	if (argc != 2 && argc != 3) {
		fprintf(stderr, "usage: sandbox-probe ROLE [PROBE]\n");
		return EXIT_FAILURE;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; i < ARRAY_SIZE(probes); i++)
		if (argc == 2 || strcmp(argv[2], probes[i].name) == 0)
			printf("%s %s\n", probes[i].name, answer(&probes[i], argv[1]));
	return EXIT_SUCCESS;
}
