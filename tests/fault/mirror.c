/*
 * The mirror is a process: it takes from the interface what the guest sent, exchanges the two
 * addresses as the echo device does, and puts it out again. Its socket has room for more than is
 * ever under way.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mirror.h"

#define ROOM_BYTES (8 << 20)

static int make_tap(void)
{
	struct ifreq ifr = { .ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR) };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	int e = 0;

	if (fd < 0)
		return -errno;
	strcpy(ifr.ifr_name, MIRROR_TAP);
	if (ioctl(fd, TUNSETIFF, &ifr) < 0 || ioctl(fd, TUNSETPERSIST, 1) < 0)
		e = -errno;
	close(fd);
	return e;
}

/* a kernel that speaks IPv6 sends on every interface that comes up */
static void hush(void)
{
	int fd = open("/proc/sys/net/ipv6/conf/" MIRROR_TAP "/disable_ipv6", O_WRONLY | O_CLOEXEC);

	if (fd >= 0 && write(fd, "1", 1) != 1)
		fprintf(stderr, "IPv6 stays on\n");
	if (fd >= 0)
		close(fd);
}

static int bring_up(void)
{
	struct ifreq ifr = { .ifr_flags = IFF_UP | IFF_NOARP | IFF_PROMISC };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int e;

	strcpy(ifr.ifr_name, MIRROR_TAP);
	e = fd < 0 || ioctl(fd, SIOCSIFFLAGS, &ifr) < 0 ? -errno : 0;
	if (fd >= 0)
		close(fd);
	return e;
}

static int open_packet(void)
{
	struct sockaddr_ll addr = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	int room = ROOM_BYTES, one = 1;
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	addr.sll_ifindex = (int)if_nametoindex(MIRROR_TAP);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)) < 0 ||
		setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one)) < 0 ||
		bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	return fd;
}

__attribute__((noreturn)) static void reflect(int fd)
{
	uint8_t frame[65536], mac[6];
	ssize_t n;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		n = recv(fd, frame, sizeof(frame), 0);
		if (n < ETH_HLEN)
			continue;
		memcpy(mac, frame, 6);
		memcpy(frame, frame + 6, 6);
		memcpy(frame + 6, mac, 6);
		if (send(fd, frame, (size_t)n, 0) != n)
			fprintf(stderr, "the mirror lost a frame: %s\n", strerror(errno));
	}
}

int mirror_open(pid_t *ret_pid)
{
	int e = unshare(CLONE_NEWNET) < 0 ? -errno : make_tap();
	int fd;

	if (e)
		return e;
	hush();
	e = bring_up();
	fd = e ? e : open_packet();
	if (fd < 0)
		return fd;
	fflush(NULL);
	*ret_pid = fork();
	if (*ret_pid == 0)
		reflect(fd);
	close(fd);
	return *ret_pid < 0 ? -errno : 0;
}

void mirror_close(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}
