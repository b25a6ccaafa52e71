#pragma once

#include <stddef.h>

/*
 * The kind of a descriptor that another process has opened. Finding it out never waits for a file
 * server or a peer. A descriptor of another kind might block in fstat(), read(), write() and even
 * close().
 */

enum fd_kind {
	FD_FOREIGN = 0,      /* anything else */
	FD_MEMORY = 1 << 0,  /* a regular file: memfd, tmpfs, hugetlbfs or local (kind.c) */
	FD_EVENT = 1 << 1,   /* an eventfd */
	FD_PIPE = 1 << 2,    /* either end of a pipe, or a FIFO */
	FD_CHANNEL = 1 << 3, /* a connected AF_UNIX stream socket */
	FD_DEVICE = 1 << 4,  /* a character device; it depends on the driver what blocks */
	FD_BUFFER = 1 << 5,  /* a dma-buf */
	FD_FENCE = 1 << 6,   /* a fence of the GPU (sync_file) */
};

enum {
	_FD_KIND_E_OK = 0,
	FD_KIND_E_REFUSED = 1,
};

#define FD_NOTIFIER (FD_EVENT | FD_PIPE)
#define FD_HARMLESS (FD_MEMORY | FD_NOTIFIER | FD_CHANNEL)
#define FD_GPU (FD_BUFFER | FD_FENCE) /* likewise harmless */
#define FD_KIND_TEXT_BYTES 160

/**
 * fd_kind_of() - determine the kind of a descriptor
 * @fd:       borrowed
 * @ret_text: [out] a description for the operator: "a memory file", "a file on fuse.sshfs"
 *
 * Cost: up to five system calls; for a file on disk, a read of the mount table. No allocation: it
 *       may be called in a child between fork() and exec().
 */
enum fd_kind fd_kind_of(int fd, char ret_text[FD_KIND_TEXT_BYTES]);

/**
 * fd_kind_check() - check that a descriptor is of one of the wanted kinds
 * @wanted:   mask of FD_*
 * @ret_text: [out] set if it is refused: what it is, and what was expected
 *
 * Errors: 0 | FD_KIND_E_REFUSED: the sender is at fault.
 */
int fd_kind_check(int fd, unsigned int wanted, char ret_text[FD_KIND_TEXT_BYTES]);
