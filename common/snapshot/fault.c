/* What is refused is quoted, so that it can be found; it may hold anything. */
#include "snapshot/fault.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/text.h"
#include "snapshot/snapshot.h"

int snapshot_refuse(struct snapshot_fault *fault, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(fault->text, sizeof(fault->text), fmt, ap);
	va_end(ap);
	text_clean(fault->text);
	return SNAPSHOT_E_REFUSED;
}
