#pragma once

struct launcher;

/** former_watch() - pass on what children of a former release say on launcher->notify_fd; 0 |
 * negative errno */
int former_watch(struct launcher *launcher);
/** former_close() - close and remove that socket; nothing happens where there was none */
void former_close(struct launcher *launcher);
