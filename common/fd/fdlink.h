#pragma once

#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>
#include <sys/types.h>

#include "bus.pb-c.h"

/*
 * The side link: AF_UNIX SOCK_SEQPACKET, one protobuf message (bh.Link) a packet, with descriptors.
 * memory listens on one socket for each peer ("link/NAME.sock" in the guest's runtime directory), so
 * that who speaks is known from where.
 */

#define FDLINK_FDS_MAX 64          /* in one packet */
#define FDLINK_BYTES_MAX 65536     /* of one packet */

/** struct fdset - descriptors that are owned; fdset_deinit() closes what was not stolen */
struct fdset {
	int fds[FDLINK_FDS_MAX];
	size_t n_fds;
};

#define FDSET_INIT { .n_fds = 0 }
#define _cleanup_fdset_ __attribute__((cleanup(fdset_deinit)))

void fdset_deinit(struct fdset *set);
/** fdset_steal() - take the i-th out; -1 is left in its place */
int fdset_steal(struct fdset *set, size_t i);

/** fdlink_listen() - a non-blocking listening socket at a path in a folder of ours, replacing a stale one
 * @group: [in] of the file, with mode; one of ours
 * Errors: the descriptor | negative errno; -ENAMETOOLONG when the path does not fit sun_path. */
int fdlink_listen(const char *path, mode_t mode, gid_t group);

/** fdlink_accept() - the descriptor | -EAGAIN | -EPERM when the peer is neither that user nor root (closed) */
int fdlink_accept(int listen_fd, uid_t user, pid_t *ret_pid);

/** fdlink_connect() - a blocking socket, with time-outs of a second on both directions */
int fdlink_connect(const char *path);

/** fdlink_send() - one packet; fds are borrowed. fdlink_send_any() is for other messages than those of the link.
 * @flags: MSG_DONTWAIT, or 0 */
int fdlink_send(int fd, const Bh__Link *msg, const int *fds, size_t n_fds);
int fdlink_send_any(int fd, const ProtobufCMessage *msg, const int *fds, size_t n_fds, int flags);

/**
 * fdlink_recv() - one packet
 * @ret_msg: free with bh__link__free_unpacked(msg, NULL)
 * @ret_fds: initialised by the caller; owns what came, also with a message that is refused
 *
 * Errors: 0 | -ECONNRESET the peer is gone | -EAGAIN | -EBADMSG malformed, truncated or too many
 *         descriptors | other negative errno.
 */
int fdlink_recv(int fd, Bh__Link **ret_msg, struct fdset *ret_fds);

/** fdlink_recv_any() - the same for a message of that type; free with protobuf_c_message_free_unpacked() */
int fdlink_recv_any(int fd, const ProtobufCMessageDescriptor *type, ProtobufCMessage **ret_msg,
	struct fdset *ret_fds);

/*
 * The client: what frontend and workers use. Calls are for workers, questions (vault_ask_...) for the frontend; one
 * vault is used for either. Calls block for the time of a local round trip (some 10 us);
 * when memory is away they connect again for up to 5 s, then fail with -ETIMEDOUT. A call that broke off
 * is sent again: every request of the link may be repeated.
 */
struct vault;

int vault_new(struct vault **ret_vault, const char *path, const char *device);
struct vault *vault_free(struct vault *vault);

/** vault_greet() - let memory know that we are there, and that our endpoint of the bus listens */
int vault_greet(struct vault *vault);
/** vault_watch() - from now on connect again whenever memory was away, and call on_back (may be NULL) each time:
 * what it had forgotten of us, it must be told again. One that is not connected yet is connected from the loop, and
 * on_back is called then, too. */
int vault_watch(struct vault *vault, sd_event *event, void (*on_back)(void *data), void *data);
/** vault_deposit() - n descriptors (borrowed) for a device; fills n tokens */
int vault_deposit(struct vault *vault, const char *device, const int *fds, size_t n,
	uint64_t *ret_tokens);
/** vault_redeem() - copies of what lies under the tokens; -ENOENT when one is unknown or not ours */
int vault_redeem(struct vault *vault, const char *device, const uint64_t *tokens, size_t n,
	struct fdset *ret_fds);

/** struct vault_attachment - what a worker begins with; owns everything in it */
struct vault_attachment {
	int record_fd;          /* read-only; see record.h */
	uint64_t record_id;     /* the same after a restart of memory, whose file may be another one */
	int ledger_fd;
	char **kept_names;      /* n_kept */
	int *kept_fds;          /* the same order; -1 = taken */
	size_t n_kept;
};

int vault_attach(struct vault *vault, uint64_t ledger_bytes, struct vault_attachment *ret);
void vault_attachment_deinit(struct vault_attachment *attachment);
/** vault_keep() - keep fd (borrowed) under a name across our death; replaces what the name held */
int vault_keep(struct vault *vault, const char *name, int fd);
int vault_unkeep(struct vault *vault, const char *name);

/**
 * vault_answer_fn - the answer to a question; called from the loop
 * @error:  0 | negative errno: memory refuses it, for good. A memory that is away is waited for, without limit
 * @tokens: of a deposit, as many as there were descriptors; borrowed
 * @fds:    of what was redeemed, one; what is not stolen is closed
 */
typedef void vault_answer_fn(void *data, int error, const uint64_t *tokens, struct fdset *fds);

/** vault_ask_deposit() - as vault_deposit(), without waiting; fds are borrowed until the answer or vault_forget(), the
 * device's name until then, too. 0 | negative errno: not asked. Of a vault that is watched (vault_watch()) */
int vault_ask_deposit(struct vault *vault, const char *device, const int *fds, size_t n,
	vault_answer_fn *on_answer, void *data);
/** vault_ask_redeem() - as vault_redeem() of one token, without waiting; the device's name is borrowed likewise */
int vault_ask_redeem(struct vault *vault, const char *device, uint64_t token, vault_answer_fn *on_answer,
	void *data);
/** vault_ask_greet() - as vault_greet(), without waiting; an earlier memory's answer is -EOPNOTSUPP */
int vault_ask_greet(struct vault *vault, vault_answer_fn *on_answer, void *data);
/** vault_forget() - no question that was asked with this data is answered any more */
void vault_forget(struct vault *vault, const void *data);
