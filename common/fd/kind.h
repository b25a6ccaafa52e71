#pragma once

#include <stddef.h>

/*
 * What a descriptor is that somebody else has opened. Telling it asks nobody: no file system, no
 * file server, no peer. What is of none of these kinds may wait for such a one in fstat(), read(),
 * write() and even close().
 */

enum fd_kind {
	FD_FOREIGN = 0,       /* anything else */
	FD_MEMORY = 1 << 0,   /* a regular file: memfd, tmpfs, hugetlbfs, or local (see kind.c) */
	FD_EVENT = 1 << 1,    /* an eventfd */
	FD_PIPE = 1 << 2,     /* either end of a pipe, or a FIFO */
	FD_CHANNEL = 1 << 3,  /* a connected AF_UNIX stream socket */
	FD_DEVICE = 1 << 4,   /* a character device; its driver decides what waits */
};

enum {
	_FD_KIND_E_OK = 0,
	FD_KIND_E_REFUSED = 1,
};

#define FD_NOTIFIER (FD_EVENT | FD_PIPE)
#define FD_HARMLESS (FD_MEMORY | FD_NOTIFIER | FD_CHANNEL)
#define FD_KIND_TEXT_BYTES 160

/**
 * fd_kind_of() - of which kind it is
 * @fd:       borrowed
 * @ret_text: [out] what it is, for people: "a memory file", "a file on fuse.sshfs"
 *
 * Cost: up to five system calls; of a file on disk, a look at the mount table. No allocation: it may
 *       be called in a child that was just forked.
 */
enum fd_kind fd_kind_of(int fd, char ret_text[FD_KIND_TEXT_BYTES]);

/**
 * fd_kind_check() - whether it is of one of the wanted kinds
 * @wanted:   FD_* that are allowed
 * @ret_text: [out] of one that is refused: what it is, and what is due
 *
 * Errors: 0 | FD_KIND_E_REFUSED: whoever handed it over is at fault.
 */
int fd_kind_check(int fd, unsigned int wanted, char ret_text[FD_KIND_TEXT_BYTES]);
