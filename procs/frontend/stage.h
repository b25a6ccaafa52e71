#pragma once

#include <stddef.h>

/*
 * A pipe in which a message of ours lies ready before it goes out. One system call of the kernel
 * moves it to the socket, so that it is in the one or the other, and whoever comes after this
 * process sees in which.
 */

#define STAGE_BYTES_MAX 4012 /* of a message; a pipe takes up to 4096 bytes at once or not at all */

/** struct stage - of one device and purpose; both ends lie in the fd store as well */
struct stage {
	int read_fd;
	int write_fd;
};

#define STAGE_NULL                                                                                 \
	{                                                                                          \
		.read_fd = -1, .write_fd = -1                                                      \
	}

/** stage_open() - the pipe that a former process of this device left under this purpose, or a new
 * one
 * Errors: 0 | negative errno. */
int stage_open(struct stage *stage, const char *purpose, const char *device);
/** stage_close() - this process's ends; the fd store keeps the pipe, and what lies in it */
void stage_close(struct stage *stage);

/** stage_bytes() - how many bytes lie ready; 0 = nothing does */
size_t stage_bytes(const struct stage *stage);
/** stage_lay() - lay a message of n bytes ready: all of it, or negative errno */
int stage_lay(struct stage *stage, const void *buf, size_t n);
/** stage_look() - what lies ready, and stays so; returns how many bytes of it were put into buf */
size_t stage_look(const struct stage *stage, void *buf, size_t n);
/** stage_send() - move what lies ready to a socket, without waiting
 * Errors: 0, also when nothing did | -EAGAIN: there is no room, call again later | other
 * negative errno. */
int stage_send(struct stage *stage, int fd);
/** stage_empty() - forget what lies ready */
void stage_empty(struct stage *stage);
