/*
 * xdp - attach a program to a network device's driver that passes every frame, or detach it
 *
 *   xdp attach|detach DEVICE
 *
 * A driver that takes one gives each CPU a transmit ring of its own, and switches off what it
 * received in long frames.
 */
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

struct request {
	struct nlmsghdr head;
	struct ifinfomsg link;
	struct nlattr xdp, fd;
	int32_t fd_value;
	struct nlattr flags;
	uint32_t flags_value;
};

struct reply {
	struct nlmsghdr head;
	struct nlmsgerr error;
	char rest[1024];
};

static int load(void)
{
	static const struct bpf_insn insns[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.prog_type = BPF_PROG_TYPE_XDP;
	attr.insns = (uint64_t)(uintptr_t)insns;
	attr.insn_cnt = 2;
	attr.license = (uint64_t)(uintptr_t) "GPL";
	return (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));
}

/* 0 or a negative errno */
static int set(unsigned int device, int fd)
{
	struct request request = {
		.head = { sizeof(request), RTM_SETLINK, NLM_F_REQUEST | NLM_F_ACK, 1, 0 },
		.link = { .ifi_index = (int)device },
		.xdp = { sizeof(request) - sizeof(request.head) - sizeof(request.link),
			IFLA_XDP | NLA_F_NESTED },
		.fd = { 8, IFLA_XDP_FD },
		.fd_value = fd,
		.flags = { 8, IFLA_XDP_FLAGS },
		.flags_value = XDP_FLAGS_DRV_MODE,
	};
	struct reply reply = { 0 };
	int line = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);

	if (line < 0 || send(line, &request, sizeof(request), 0) < 0 ||
		recv(line, &reply, sizeof(reply), 0) < (ssize_t)sizeof(reply.head))
		return -1;
	close(line);
	return reply.error.error;
}

int main(int argc, char **argv)
{
	unsigned int device = argc == 3 ? if_nametoindex(argv[2]) : 0;
	int fd = -1, e;

	if (!device || (strcmp(argv[1], "attach") != 0 && strcmp(argv[1], "detach") != 0)) {
		fprintf(stderr, "usage: xdp attach|detach DEVICE\n");
		return 2;
	}
	if (argv[1][0] == 'a')
		fd = load();
	if (argv[1][0] == 'a' && fd < 0) {
		perror("xdp: load");
		return 1;
	}
	e = set(device, fd);
	if (e)
		fprintf(stderr, "xdp: %s\n", strerror(-e));
	return e != 0;
}
