#pragma once

#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>
#include <sys/types.h>

#include "bus.pb-c.h"
#include "fd/fdset.h"

/*
 * The side link carries descriptors: AF_UNIX SOCK_SEQPACKET, one protobuf message (bh.Link) per
 * packet. memory listens on one socket per peer ("link/PEER.sock" in the guest's runtime
 * directory), so the socket identifies the peer.
 */

#define FDLINK_FDS_MAX FDSET_MAX
#define FDLINK_BYTES_MAX 65536 /* of one packet */

/** fdlink_listen() - make a non-blocking listening socket at path, replacing a stale one
 * @path:  in a directory that only this process's user may write to
 * @group: of the file; a group of this process
 * Errors: the descriptor, the caller's | negative errno; -ENAMETOOLONG: path does not fit
 * sun_path. */
int fdlink_listen(const char *path, mode_t mode, gid_t group);

/** fdlink_accept() - accept the next connection; non-blocking
 * Errors: the descriptor, the caller's | -EPERM: the peer is neither that user nor root, and is
 *         disconnected | -EAGAIN and other negative errno. */
int fdlink_accept(int listen_fd, uid_t user, pid_t *ret_pid);

/** fdlink_connect() - connect a blocking socket, with time-outs of a second for sending and
 * receiving
 * Errors: the descriptor, the caller's | negative errno. */
int fdlink_connect(const char *path);

/** fdlink_send(), fdlink_send_any() - send one packet, of a bh.Link or of any other message
 * @fds:   borrowed; up to FDLINK_FDS_MAX
 * @flags: MSG_DONTWAIT or 0
 * Errors: 0 | -EMSGSIZE | other negative errno. */
int fdlink_send(int fd, const Bh__Link *msg, const int *fds, size_t n_fds);
int fdlink_send_any(int fd, const ProtobufCMessage *msg, const int *fds, size_t n_fds, int flags);

/**
 * fdlink_recv() - receive one packet
 * @ret_msg: [out] set only on 0; free it with bh__link__free_unpacked(msg, NULL)
 * @ret_fds: initialised by the caller; owns the descriptors that came, also those of a packet that
 *           is refused
 *
 * Errors: 0 | -EAGAIN | -ECONNRESET: the peer is gone | -EBADMSG: malformed, truncated or too many
 *         descriptors | other negative errno. All but -EAGAIN end the link.
 */
int fdlink_recv(int fd, Bh__Link **ret_msg, struct fdset *ret_fds);

/** fdlink_recv_any() - fdlink_recv() for a message of that type; free it with
 * protobuf_c_message_free_unpacked() */
int fdlink_recv_any(int fd, const ProtobufCMessageDescriptor *type, ProtobufCMessage **ret_msg,
	struct fdset *ret_fds);

/*
 * The client: what frontend and workers use. Calls are for workers, questions (vault_ask_...) for
 * the frontend; one vault is used for either. Calls block for the time of a local round trip (some
 * 10 us); when memory is away they connect again for up to 5 s, then fail with -ETIMEDOUT. A call
 * that broke off is sent again: every request of the link may be repeated.
 */
struct vault_link;

/** vault_new() - a client of the link at path; it connects with the first call
 * @device: the worker's own device; NULL for the frontend, which speaks for all. Both texts are
 *          copied
 * Errors: 0 | -ENOMEM. */
int vault_new(struct vault_link **ret_vault, const char *path, const char *device);
/** vault_free() - disconnect; questions that are open are not answered. NULL is fine; returns
 * NULL */
struct vault_link *vault_free(struct vault_link *vault);

/** vault_greet() - let memory know that we are there, and that our endpoint of the bus listens */
int vault_greet(struct vault_link *vault);
/** vault_watch() - from now on connect again whenever memory was away, and call on_back (may be
 * NULL) each time: what it had forgotten of us, it must be told again. One that is not connected
 * yet is connected from the loop, and on_back is called then, too. */
int vault_watch(struct vault_link *vault, sd_event *event, void (*on_back)(void *data), void *data);
/** vault_deposit() - n descriptors (borrowed) for a device; fills n tokens */
int vault_deposit(struct vault_link *vault, const char *device, const int *fds, size_t n,
	uint64_t *ret_tokens);
/** vault_redeem() - copies of what lies under the tokens; -ENOENT when one is unknown or not
 * ours */
int vault_redeem(struct vault_link *vault, const char *device, const uint64_t *tokens, size_t n,
	struct fdset *ret_fds);

/** struct vault_attachment - what a worker begins with; owns everything in it */
struct vault_attachment {
	int record_fd;      /* read-only; see record.h */
	uint64_t record_id; /* the same after a restart of memory, whose file may be another one */
	int ledger_fd;
	char **kept_names; /* n_kept */
	int *kept_fds;     /* the same order; -1 = taken */
	size_t n_kept;
};

/** vault_attach() - a worker asks for its record, its ledger (of so many bytes) and what it has
 * kept
 * Errors: 0 | negative errno, and *ret holds nothing. vault_attachment_deinit() releases it. */
int vault_attach(struct vault_link *vault, uint64_t ledger_bytes, struct vault_attachment *ret);
/** vault_attachment_deinit() - close and free what was not taken out */
void vault_attachment_deinit(struct vault_attachment *attachment);
/** vault_keep() - keep fd (borrowed) under a name across our death; replaces what the name held */
int vault_keep(struct vault_link *vault, const char *name, int fd);
/** vault_unkeep() - drop what is kept under a name; 0 also where nothing is */
int vault_unkeep(struct vault_link *vault, const char *name);

/**
 * vault_answer_fn - the answer to a question; called from the loop
 * @error:  0 | negative errno: memory refuses it, for good. A memory that is away is waited for,
 *          without limit
 * @tokens: of a deposit, as many as there were descriptors; borrowed
 * @fds:    of what was redeemed, one; what is not stolen is closed
 */
typedef void vault_answer_fn(void *data, int error, const uint64_t *tokens, struct fdset *fds);

/** vault_ask_deposit() - as vault_deposit(), without waiting; fds are borrowed until the answer or
 * vault_forget(), the device's name until then, too. 0 | negative errno: not asked. Of a vault that
 * is watched (vault_watch()) */
int vault_ask_deposit(struct vault_link *vault, const char *device, const int *fds, size_t n,
	vault_answer_fn *on_answer, void *data);
/** vault_ask_redeem() - as vault_redeem() of one token, without waiting; the device's name is
 * borrowed likewise */
int vault_ask_redeem(struct vault_link *vault, const char *device, uint64_t token,
	vault_answer_fn *on_answer, void *data);
/** vault_ask_greet() - as vault_greet(), without waiting; an earlier memory's answer is
 * -EOPNOTSUPP */
int vault_ask_greet(struct vault_link *vault, vault_answer_fn *on_answer, void *data);
/** vault_forget() - no question that was asked with this data is answered any more */
void vault_forget(struct vault_link *vault, const void *data);
