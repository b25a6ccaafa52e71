#pragma once

#include "config/config.h"

/* The listening sockets of devices, and the connection to a VMM that listens itself (client
 * mode). */

/** listener_open() - the device's listening socket: taken over, or made. Errors are logged, each
 * in one line that says what to do. Returns the descriptor | negative errno.
 * @ret_passed: [out] the parent process made it, and has to renew its file */
int listener_open(const struct config_device *config, bool *ret_passed);

/** listener_may_make() - false: this process may not make files in the socket's directory, or
 * look what is at its path */
bool listener_may_make(const struct config_device *config);

/** listener_renew() - another one at the device's path: the file of the former one is gone. As
 * listener_open() */
int listener_renew(const struct config_device *config);

/** listener_drop_others() - the sockets of devices that the guest's file does not name any more,
 * and their files; before any is opened, since another device may have the path now */
void listener_drop_others(const struct config *config);

/** listener_leave() - this process listens no more. Where nothing keeps the socket, its file
 * goes.
 * @listen_fd: [in] borrowed; from listener_open() or listener_renew() */
void listener_leave(const struct config_device *config, int listen_fd);

/** listener_connect() - to the VMM's socket, without waiting: the descriptor | negative errno */
int listener_connect(const struct config_device *config);
