#include "target.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "config/config.h"

int target_parse(char *text, struct target *ret)
{
	char *device = strchr(text, ':'), *guest = text;
	const char *wrong;

	if (device)
		*device++ = '\0';
	wrong = !config_check_name(guest)              ? guest
		: device && !config_check_name(device) ? device
						       : NULL;
	if (wrong) {
		fprintf(stderr, "%s: names have 1 to %d letters, digits, '_', '-' or '.'\n", wrong,
			CONFIG_NAME_MAX);
		return -EINVAL;
	}
	*ret = (struct target){ guest, device };
	return 0;
}
