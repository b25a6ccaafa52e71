#include "attached.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "base/cleanup.h"

static char *path_of(const struct frontend *frontend)
{
	const struct proc *proc = frontend->proc;
	char *path;

	check(asprintf(&path, "%s/%s/attached", proc->runtime_base ?: proc->runtime_dir,
		      proc->peer) >= 0);
	return path;
}

void attached_write(const struct frontend *frontend)
{
	_cleanup_free_ char *path = path_of(frontend);
	FILE *f = NULL;

	for (size_t i = 0; i < frontend->n_sessions; i++) {
		const struct session *session = &frontend->sessions[i];

		if (session->exchange.conn_fd < 0)
			continue;
		f = f ?: fopen(path, "we");
		if (!f)
			return;
		fprintf(f, "%s\n", session->config->name);
	}
	if (f)
		fclose(f);
}

void attached_remove(const struct frontend *frontend)
{
	_cleanup_free_ char *path = path_of(frontend);

	(void)unlink(path);
}
