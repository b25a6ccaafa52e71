/*
 * tcprr - one byte there and back over TCP, one at a time
 *
 *   tcprr answer ADDRESS PORT           answers one connection after the other
 *   tcprr ask ADDRESS PORT MILLISECONDS prints the microseconds of a round trip, on the average
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int answer(int fd, const struct sockaddr_in *addr)
{
	char byte;
	int on = 1, line;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0 || listen(fd, 8) < 0) {
		perror("tcprr");
		return 1;
	}
	puts("listening");
	fflush(stdout);
	while ((line = accept(fd, NULL, NULL)) >= 0) {
		setsockopt(line, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		while (read(line, &byte, 1) == 1 && write(line, &byte, 1) == 1)
			;
		close(line);
	}
	return 1;
}

static int ask(int fd, const struct sockaddr_in *addr, double milliseconds)
{
	double begun, now;
	int on = 1;
	long n = 0;
	char byte = 0;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0) {
		perror("tcprr");
		return 1;
	}
	now = begun = now_us();
	for (; now < begun + milliseconds * 1e3; n++, now = now_us())
		if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1)
			return 1;
	printf("%.3f\n", (now - begun) / (double)n);
	return 0;
}

int main(int argc, char **argv)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in addr = { .sin_family = AF_INET };

	if (argc < 4 || inet_pton(AF_INET, argv[2], &addr.sin_addr) != 1)
		return 2;
	addr.sin_port = htons((unsigned short)atoi(argv[3]));
	if (argc == 4 && strcmp(argv[1], "answer") == 0)
		return answer(fd, &addr);
	return argc == 5 && strcmp(argv[1], "ask") == 0 ? ask(fd, &addr, atof(argv[4])) : 2;
}
