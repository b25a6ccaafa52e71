#pragma once

struct launcher;

/** former_watch() - obey what the children of a former release say at launcher->notify_fd; 0 | negative errno */
int former_watch(struct launcher *launcher);
/** former_close() - nobody speaks there any more; harmless where nobody did */
void former_close(struct launcher *launcher);
