/*
 * Parsing and validation are separate. inih delivers keys; the line reader beneath it counts lines
 * and detects sections. What depends on the whole file (a missing key, two devices with the same
 * socket) is validated at the end. All errors of a file are reported, one line each.
 */
#include "config/config.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "config/claims.h"
#include "config/keys.h"
#include "config/lines.h"
#include "config/names.h"
#include "config/nearest.h"
#include "config/read.h"
#include "config/roles.h"
#include "config/values.h"

struct parse {
	struct config *config;
	struct config_device
		*device; /* of the current section; NULL: none, or its header is invalid */
	bool mode_given, standby_given; /* in this section */
	char *errors;
	FILE *file;
	unsigned int line;
};

/* --- Errors --- */

__attribute__((format(printf, 3, 4))) static int fail(struct parse *parse, unsigned int line,
	const char *fmt, ...)
{
	char text[512], where[32] = "";
	char *all;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (line)
		snprintf(where, sizeof(where), "%u:", line);
	check(asprintf(&all, "%s%s%s:%s %s", parse->errors ?: "", parse->errors ? "\n" : "",
		      parse->config->path, where, text) >= 0);
	free(parse->errors);
	parse->errors = all;
	return 1; /* so that inih continues */
}

/* --- Common keys --- */

static int given_twice(struct parse *parse, unsigned int line, const char *key)
{
	return fail(parse, line, "%s is given twice in [device %s]; remove one", key,
		parse->device->name);
}

static int set_once(struct parse *parse, unsigned int line, char **to, const char *key,
	const char *text)
{
	if (*to)
		return given_twice(parse, line, key);
	*to = strdup(text);
	check(*to);
	return 1;
}

static int set_socket(struct parse *parse, unsigned int line, const char *text)
{
	parse->device->socket_line = line;
	if (*text != '/')
		return fail(parse, line, "socket = %s: must be an absolute path", text);
	if (strlen(text) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
		return fail(parse, line,
			"socket = %s: a socket path may have at most %zu characters, this has %zu",
			text, sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1, strlen(text));
	return set_once(parse, line, &parse->device->socket, "socket", text);
}

/* The owner has to connect, too, and a group that may only read could not: connecting is
 * writing. */
static int set_socket_mode(struct parse *parse, unsigned int line, const char *text)
{
	static const struct {
		const char *text;
		unsigned int mode;
	} modes[] = { { "0600", 0600 }, { "0660", 0660 }, { "0666", 0666 } };

	parse->device->access_line = line;
	if (parse->device->socket_mode)
		return given_twice(parse, line, "socket-mode");
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++)
		if (strcmp(text, modes[i].text) == 0)
			parse->device->socket_mode = modes[i].mode;
	if (parse->device->socket_mode)
		return 1;
	return fail(parse, line,
		"socket-mode = %s: must be 0600 (only socket-user connects), 0660 (and socket-group) or 0666 (everyone)",
		text);
}

static int set_socket_user(struct parse *parse, unsigned int line, const char *text)
{
	parse->device->access_line = line;
	return set_once(parse, line, &parse->device->socket_user, "socket-user", text);
}

/** struct choice - a key with two values */
struct choice {
	const char *key, *off, *on;
	const char *words; /* for error messages */
};

static const struct choice mode = { "mode", "server", "client",
	"'server' (we listen) or 'client' (we connect)" };
static const struct choice standby = { "standby", "no", "yes", "'yes' or 'no'" };

static int choose(struct parse *parse, const struct choice *choice, const char *text, bool *given,
	bool *ret_on)
{
	if (*given)
		return given_twice(parse, parse->line, choice->key);
	*given = true;
	*ret_on = strcmp(text, choice->on) == 0;
	if (*ret_on || strcmp(text, choice->off) == 0)
		return 1;
	return fail(parse, parse->line, "%s = %s: must be %s", choice->key, text, choice->words);
}

/* --- Parsing sections and keys --- */

/* Whether the guest's runtime directory (proc/proc.h) or a process already has this name. */
static bool is_taken(const char *name)
{
	static const char *const others[] = { "keeper", "link", "notify", "lock", "ctl",
		"processes" };

	for (size_t i = 0; i < N_ROLES; i++)
		if (!roles[i].per_device && strcmp(name, roles[i].name) == 0)
			return true;
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (strcmp(name, others[i]) == 0)
			return true;
	return false;
}

static int on_section(struct parse *parse, unsigned int line, const char *section)
{
	struct config *config = parse->config;
	const char *name = section + strlen("device ");

	parse->device = NULL;
	parse->mode_given = parse->standby_given = false;
	if (strncmp(section, "device ", strlen("device ")) != 0)
		return fail(parse, line, "[%s]: unknown section; sections are called [device NAME]",
			section);
	if (!config_check_name(name))
		return fail(parse, line,
			"[device %s]: a name has 1 to %d letters, digits, '_', '-' or '.', beginning with a letter or digit",
			name, CONFIG_NAME_MAX);
	if (is_taken(name))
		return fail(parse, line,
			"[device %s]: this name is taken by a process; choose another", name);
	if (config_device(config, name))
		return fail(parse, line, "[device %s] is given twice; rename or remove one", name);
	if (config->n_devices == CONFIG_DEVICES_MAX)
		return fail(parse, line, "[device %s]: a guest may have at most %d devices", name,
			CONFIG_DEVICES_MAX);
	parse->device = &config->devices[config->n_devices++];
	parse->device->line = line;
	parse->device->name = strdup(name);
	check(parse->device->name);
	return 1;
}

/* `type` may come last, so the keys of the type are stored as text until the end of the section. */
static int keep_value(struct parse *parse, unsigned int line, const char *key, const char *text)
{
	struct config_device *device = parse->device;
	struct config_value *values;

	for (size_t i = 0; i < device->n_values; i++)
		if (strcmp(device->values[i].key, key) == 0)
			return given_twice(parse, line, key);
	values = reallocarray(device->values, device->n_values + 1, sizeof(*values));
	check(values);
	device->values = values;
	values[device->n_values] = (struct config_value){
		.key = strdup(key), .text = strdup(text), .given = true, .line = line
	};
	check(values[device->n_values].key && values[device->n_values].text);
	device->n_values++;
	return 1;
}

/* A value in quotes is reported; the rest of it is judged, too. */
static char *take_value(struct parse *parse, const char *key, const char *text)
{
	char *bare = lines_unquote(text);

	if (!bare)
		check(bare = strdup(text));
	else
		fail(parse, parse->line, "%s = %s: a value stands without quotes; write %s = %s",
			key, text, key, bare);
	return bare;
}

static int on_key(void *data, const char *section, const char *key, const char *value)
{
	struct parse *parse = data;
	_cleanup_free_ char *text = NULL;
	unsigned int n = parse->line;

	if (!*section)
		return fail(parse, n, "'%s' stands before any [device NAME] section", key);
	if (!parse->device)
		return 1; /* the section's error has been reported */
	text = take_value(parse, key, value);
	if (strcmp(key, "type") == 0)
		return set_once(parse, n, &parse->device->type, "type", text);
	if (strcmp(key, "socket") == 0)
		return set_socket(parse, n, text);
	if (strcmp(key, "mode") == 0)
		return choose(parse, &mode, text, &parse->mode_given, &parse->device->client);
	if (strcmp(key, "socket-group") == 0)
		return set_once(parse, n, &parse->device->socket_group, "socket-group", text);
	if (strcmp(key, "socket-user") == 0)
		return set_socket_user(parse, n, text);
	if (strcmp(key, "socket-mode") == 0)
		return set_socket_mode(parse, n, text);
	if (strcmp(key, "standby") == 0)
		return choose(parse, &standby, text, &parse->standby_given,
			&parse->device->standby);
	return keep_value(parse, n, key, text);
}

/* fgets() for inih, which tells its handler neither the line number nor that a section begins. An
 * unclosed section header is replaced by a closed one, so that the following keys are not taken for
 * those of the section before. */
static char *read_line(char *buf, int size, void *data)
{
	struct parse *parse = data;
	char section[256], *start;
	int c;

	if (!fgets(buf, size, parse->file))
		return NULL;
	if (++parse->line == 1 && !lines_skip_mark(buf)) {
		fail(parse, 1, "the file is in UTF-16; save it as UTF-8");
		return NULL;
	}
	if (!strchr(buf, '\n') && !feof(parse->file)) {
		fail(parse, parse->line, "the line is longer than %d characters; shorten it",
			size - 2);
		while ((c = getc(parse->file)) != EOF && c != '\n')
			;
		buf[0] = '\n';
		buf[1] = '\0';
	}
	start = buf + strspn(buf, " \t");
	if (*start == '[' && !lines_is_closed(start)) {
		start[strcspn(start, "\r\n")] = '\0';
		fail(parse, parse->line, "%s: the bracket is not closed; write [device NAME]",
			start);
		parse->device = NULL;
		snprintf(buf, (size_t)size, "[?]\n");
		return buf;
	}
	if (sscanf(start, "[%255[^]\n]", section) == 1)
		on_section(parse, parse->line, section);
	return buf;
}

/* --- Validating a device --- */

static void unknown_key(struct parse *parse, const struct config_device *device,
	const struct config_type *type, const struct config_value *value)
{
	const struct names keys = names_of(type);
	char advice[256];

	fail(parse, value->line, "unknown key '%s' in [device %s]; %s", value->key, device->name,
		nearest_advice(value->key, keys.names, keys.n, advice, sizeof(advice)));
}

static void judge_value(struct parse *parse, const struct config_key *key,
	struct config_value *value)
{
	char text[256];

	if (!value_judge(key, value, text, sizeof(text)))
		fail(parse, value->line, "%s%s%s = %s: %s", key->name, value->member ? "." : "",
			value->member ?: "", value->text, text);
}

static void fall_back(struct parse *parse, const struct config_device *device,
	const struct config_key *key, struct config_value *value)
{
	char identity[2 * CONFIG_NAME_MAX + 2], text[64];
	const char *fallback = key->fallback;

	if (!fallback && key->derive) {
		snprintf(identity, sizeof(identity), "%s:%s", parse->config->guest, device->name);
		key->derive(identity, text, sizeof(text));
		fallback = text;
	}
	if (!fallback)
		return;
	value->text = strdup(fallback);
	check(value->text);
	judge_value(parse, key, value);
}

/* A value that is given goes to the place of its key, and one of a member behind all of those. */
static void place_value(struct parse *parse, struct config_device *device,
	const struct config_type *type, const struct config_value *from)
{
	const struct config_key *key = names_find(type, from->key);
	const char *member = key ? names_member(key, from->key) : NULL;
	struct config_value *to;

	if (!key) {
		unknown_key(parse, device, type, from);
		free(from->text);
		return;
	}
	to = &device->values[*member ? device->n_values++ : (size_t)(key - type->keys)];
	*to = *from;
	to->key = key->name;
	if (*member) {
		to->member = strdup(member);
		check(to->member);
	}
	judge_value(parse, key, to);
}

/* Sorts the values into the table's order and fills in defaults. From here on, key names point
 * into the table. */
static void resolve_values(struct parse *parse, struct config_device *device,
	const struct config_type *type)
{
	struct config_value *given = device->values;
	size_t n_given = device->n_values;

	device->values = calloc(type->n_keys + n_given, sizeof(*device->values));
	check(device->values || type->n_keys + n_given == 0);
	device->n_values = type->n_keys;
	for (size_t i = 0; i < type->n_keys; i++)
		device->values[i].key = type->keys[i].name;
	for (size_t i = 0; i < n_given; i++) {
		place_value(parse, device, type, &given[i]);
		free((char *)given[i].key);
	}
	free(given);
	for (size_t i = 0; i < type->n_keys; i++)
		if (!device->values[i].text)
			fall_back(parse, device, &type->keys[i], &device->values[i]);
}

static void drop_values(struct config_device *device)
{
	for (size_t i = 0; i < device->n_values; i++) {
		free((char *)device->values[i].key);
		free(device->values[i].text);
	}
	free(device->values);
	device->values = NULL;
	device->n_values = 0;
}

static void fail_type(struct parse *parse, const struct config_device *device)
{
	const char *names[N_ROLES];
	size_t n = role_types(names);
	char advice[256];

	if (device->type)
		fail(parse, device->line, "[device %s]: unknown type '%s'; %s", device->name,
			device->type,
			nearest_advice(device->type, names, n, advice, sizeof(advice)));
	else
		fail(parse, device->line, "[device %s] has no 'type'; add type = %s", device->name,
			names[0]);
}

static void judge_whole(struct parse *parse, const struct role *role, struct config_device *device)
{
	const char *wrong = NULL;

	if (device->client && device->access_line)
		fail(parse, device->access_line,
			"[device %s]: with mode = client the VMM makes the socket; remove socket-user and socket-mode",
			device->name);
	if (!device->socket_mode)
		device->socket_mode = CONFIG_SOCKET_MODE;
	if (role && device->standby && !role->may_stand_by)
		fail(parse, device->line,
			"[device %s]: a device of type '%s' has no standby; remove 'standby'",
			device->name, role->name);
	if (role && !parse->errors && role->type->complete)
		wrong = role->type->complete(parse->config, device);
	if (wrong)
		fail(parse, device->line, "[device %s]: %s", device->name, wrong);
}

static void judge_device(struct parse *parse, struct config_device *device)
{
	const struct role *role = device->type ? role_of_type(device->type) : NULL;
	const struct config_type *type = role ? role->type : NULL;

	if (!device->socket && !device->socket_line && !names_is_misspelt(device, "socket"))
		fail(parse, device->line, "[device %s] has no 'socket'; add socket = /path",
			device->name);
	if (!device->type && names_is_misspelt(device, "type"))
		type = role_usual()->type; /* so that its other errors are reported, too */
	if (!type) {
		fail_type(parse, device);
		drop_values(device);
		return;
	}
	resolve_values(parse, device, type);
	judge_whole(parse, role, device);
}

static void judge_pair(struct parse *parse, const struct config_device *device,
	const struct config_device *other)
{
	const char *same =
		device->socket && other->socket ? claims_same(device, other, !parse->errors) : NULL;

	if (same)
		fail(parse, device->line,
			"[device %s] has the same %s as [device %s]; each needs its own",
			device->name, same, other->name);
}

static void judge_pairs(struct parse *parse)
{
	const struct config *config = parse->config;

	for (size_t i = 0; i < config->n_devices; i++)
		for (size_t j = 0; j < i; j++)
			judge_pair(parse, &config->devices[i], &config->devices[j]);
}

static char *guest_name(const char *path)
{
	const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	size_t n = strlen(base);

	if (n > 5 && strcmp(base + n - 5, ".conf") == 0)
		n -= 5;
	return strndup(base, n);
}

static void fail_to_read(struct parse *parse, int r)
{
	if (r == -EISDIR)
		fail(parse, 0, "cannot be read: it is no text file; name the guest's file");
	else if (r == -EACCES)
		fail(parse, 0,
			"cannot be read: %s; let user %u read it, and pass all folders above it",
			strerror(-r), geteuid());
	else
		fail(parse, 0, "cannot be read: %s; check its name", strerror(-r));
}

static void parse_file(struct parse *parse)
{
	int r;

	ini_allow_multiline = false;
	ini_inline_comment_prefixes = (char *)";#";
	parse->file = fmemopen(parse->config->text, parse->config->n_text, "r");
	check(parse->file);
	r = ini_parse_stream(read_line, parse, on_key, parse);
	fclose(parse->file);
	if (r > 0)
		fail(parse, (unsigned int)r,
			"not understood; a line is 'key = value' or '[device NAME]'");
	for (size_t i = 0; i < parse->config->n_devices; i++)
		judge_device(parse, &parse->config->devices[i]);
	judge_pairs(parse);
	if (parse->config->n_devices == 0 && !parse->errors)
		fail(parse, 0, "no [device NAME] section; a guest needs at least one device");
}

int config_load(const char *path, struct config **ret_config, char **ret_error)
{
	struct parse parse = { .config = calloc(1, sizeof(struct config)) };
	int r;

	check(parse.config);
	parse.config->path = strdup(path);
	parse.config->guest = guest_name(path);
	parse.config->devices = calloc(CONFIG_DEVICES_MAX, sizeof(struct config_device));
	check(parse.config->path && parse.config->guest && parse.config->devices);
	r = read_text(path, &parse.config->text, &parse.config->n_text);
	if (r < 0)
		fail_to_read(&parse, r);
	else if (!config_check_name(parse.config->guest))
		fail(&parse, 0,
			"the guest's name, which is the file's without .conf, is not a valid name: '%s'; "
			"names have 1 to %d letters, digits, '_', '-' or '.'",
			parse.config->guest, CONFIG_NAME_MAX);
	else
		parse_file(&parse);
	if (parse.errors) {
		*ret_error = parse.errors;
		config_free(parse.config);
		return r < 0 ? r : -EINVAL;
	}
	*ret_config = parse.config;
	return 0;
}

struct config *config_free(struct config *config)
{
	if (!config)
		return NULL;
	for (size_t i = 0; i < config->n_devices; i++) {
		struct config_device *device = &config->devices[i];

		for (size_t j = 0; j < device->n_values; j++) {
			free(device->values[j].text);
			free(device->values[j].member);
		}
		free(device->values);
		free(device->name);
		free(device->type);
		free(device->socket);
		free(device->socket_group);
		free(device->socket_user);
	}
	free(config->devices);
	free(config->guest);
	free(config->path);
	free(config->text);
	free(config);
	return NULL;
}

const struct config_device *config_device(const struct config *config, const char *name)
{
	for (size_t i = 0; i < config->n_devices; i++)
		if (strcmp(config->devices[i].name, name) == 0)
			return &config->devices[i];
	return NULL;
}
