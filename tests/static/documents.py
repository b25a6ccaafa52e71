#!/usr/bin/env python3
"""Holds what is written down to what is there; prints TAP.

deploy/rights.md to the units and to the tables of procs/memory; bulkhead.conf(5) to the tables of keys in
common/config and procs; bulkhead(1) and bulkheadctl(1), and what --help says, to the options that the programs take;
bulkhead-metrics(7), the alert rules and the dashboard to the table of series; bulkhead-vhost-user(7) to the
frontend's table of requests; the README's paths and links to the tree; manual
pages to their sections; pictures, examples and the package's files to what they are made of.
"""
import json
import pathlib
import re
import subprocess
import sys
import tempfile

from tap import tell

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROLES = re.findall(r"^(?:PROCESS|DEVICE)\((\w+)", (ROOT / "common/config/roles.def").read_text(), re.M)

# How a process is started, watched and kept is no right.
LIFE = {"Type", "NotifyAccess", "ExecStart", "ExecReload", "Restart", "RestartSec", "FileDescriptorStoreMax",
        "FileDescriptorStorePreserve", "WatchdogSec", "WatchdogSignal", "TimeoutAbortSec", "TimeoutStopSec", "KillMode", "Slice",
        "ExecStopPost", "Environment", "OOMScoreAdjust", "LimitNOFILE", "LimitMEMLOCK", "LimitCORE"}


def read(path):
    return (ROOT / path).read_text()


def rows(text):
    """The cells of every row of a Markdown table."""
    for line in text.splitlines():
        if line.startswith("|") and not line.startswith("|---"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def differences(left, left_name, right, right_name):
    """What stands on one side only, or differs; both are dictionaries."""
    for key in sorted(set(left) | set(right), key=str):
        if key not in right:
            yield f"{key} is in {left_name}, not in {right_name}"
        elif key not in left:
            yield f"{key} is in {right_name}, not in {left_name}"
        elif left[key] != right[key]:
            yield f"{key}: {left[key]!r} in {left_name}, {right[key]!r} in {right_name}"


# --- rights.md ---

# Directives that may be given more than once; of any other the last one counts.
LISTS = ("BindPaths", "DeviceAllow", "RestrictAddressFamilies", "SystemCallFilter")


def unit_rights():
    found = {}
    for role in ROLES:
        section = ""
        for line in (read("deploy/units/bulkhead@.service.in") + read(f"procs/{role}/unit.conf")).splitlines():
            if line.startswith("["):
                section = line
            name, equals, value = line.partition("=")
            if section == "[Service]" and equals and not line.startswith("#") and name not in LIFE:
                adds = name in LISTS and (name, role) in found
                found[name, role] = f"{found[name, role]} {value}" if adds else value
    return found


def check_rights():
    written, roles = {}, []
    for cells in rows(read("deploy/rights.md")):
        if cells[:2] == ["right", "directive"]:
            roles = cells[2:]
        if cells[1] == "probe":
            break  # what tests/system/rights.py tries
        if re.fullmatch("`[A-Za-z]+`", cells[1]):
            for role, value in zip(roles, cells[2:], strict=True):
                if value != "-":
                    written[cells[1].strip("`"), role] = "" if value == "(empty)" else value
    yield from differences(written, "rights.md", unit_rights(), "the unit")


def table_rights():
    found = {}
    for path in ("procs/memory/table.c", "procs/memory/links.c"):
        for request, mask in re.findall(r"\{ (?:REQ\(|BH__LINK__BODY_)(\w+)\)?,.*?((?:\| |\b)ROLE_[A-Z_| ]+),", read(path)):
            found[request] = {role.lower() for role in re.findall(r"ROLE_([A-Z]+)", mask)}
    return found


def check_requests():
    written = {}
    for cells in rows(read("deploy/rights.md")):
        if len(cells) == 6 and cells[1] in ("message", "link"):
            written[cells[0].strip("`")] = {role for role, may in zip(("frontend", "worker", "snapshot", "ctl"), cells[2:]) if may == "yes"}
    yield from differences(written, "rights.md", table_rights(), "the tables of procs/memory")


# --- bulkhead.conf(5) ---

def plain(roff):
    """A manual page without its marks."""
    text = re.sub(r'^\.(?:BI|BR|IR|B|I|RB|RI) (.*)$', lambda m: re.sub(r' ?"([^"]*)" ?|(?<=\S) (?=\S)', lambda n: n[1] or "", m[1]),
                  roff, flags=re.M)
    return re.sub(r"\\f[A-Z]|\\(?=[-&])", "", text)


def described(page, start):
    """The tagged paragraphs of a section: {tag: text}."""
    section = plain(read(page)).split(start, 1)[1].split(".SH", 1)[0]
    found = {}
    for paragraph in section.split(".TP\n")[1:]:
        tag, text = paragraph.split("\n", 1)
        found[tag.strip()] = " ".join(text.split(".PP")[0].split())
    return found


def config_keys():
    keys = {name: None for name in re.findall(r'strcmp\(key, "([a-z-]+)"\) == 0', read("common/config/config.c"))}
    for path in sorted((ROOT / "procs").glob("*/keys.c")):
        for name, rest in re.findall(r'^\t\{ "([a-z-]+)", CONFIG_KIND_([^}]*) \},$', path.read_text(), re.M):
            keys[name] = rest
            if "has_members" in rest:
                keys[f"{name}.NAME"] = None
    return keys


def check_keys():
    page = described("deploy/man/bulkhead.conf.5", ".SH KEYS")
    keys = config_keys()
    yield from differences(dict.fromkeys(keys), "common/config", dict.fromkeys(page), "bulkhead.conf.5")
    for name, rest in keys.items():
        limits = re.search(r"(\d+), (\d+)$", rest or "")
        if limits and f"{limits[1]} to {limits[2]}" not in page.get(name, ""):
            yield f"bulkhead.conf.5 does not say that {name} goes from {limits[1]} to {limits[2]}"
        fallback = re.search(r'^\w+, "(.*?)"', rest or "")
        if fallback and not re.search(rf"\b{fallback[1]} \(the default\)|default:? {fallback[1]}\b", page.get(name, "")):
            yield f"bulkhead.conf.5 does not say that {fallback[1]} is the default of {name}"


def check_hints():
    """Every common key can be the nearest one."""
    text = read("common/config/config.c")
    names = re.search(r'struct names keys = \{ \{ (.*?) \},\s*(\d+) \};', read("common/config/names.c"), re.S)
    common = set(re.findall(r'strcmp\(key, "([a-z-]+)"\) == 0', text))
    if set(re.findall('"(.*?)"', names[1])) != common or int(names[2]) != len(common):
        yield f"hints are {names[1]}, keys are {sorted(common)}"


def check_events():
    """The journal's catalogue explains each event, and nothing else."""
    events = re.findall(r'^EVENT\((\w+),\s*"([0-9a-f]{32})"\)', read("common/base/events.def"), re.M)
    entries = re.findall(r"^-- ([0-9a-f]{32})\nSubject: .+\nDefined-By: bulkhead\n", read("deploy/bulkhead.catalog"), re.M)
    if len({number for _, number in events}) != len(events):
        yield "two events have the same number"
    for name, number in events:
        if number not in entries:
            yield f"{name} is not in the catalogue"
    if len(entries) != len(events):
        yield f"the catalogue has {len(entries)} entries for {len(events)} events"


# --- Options ---

# What a launcher asks the program that is to take its place; no operator does.
INTERNAL = {"takes-over"}


def check_options(source, page):
    text = read(source)
    taken = set(re.findall(r'\{ "([a-z-]+)", (?:no|required)_argument|strcmp\(argv\[i\], "--([a-z-]+)"\)', text))
    taken = {name for pair in taken for name in pair if name}
    help_text = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', re.search(r"help\[\] =(.*?);\n", text, re.S)[1]))
    taken -= INTERNAL
    keys = set(config_keys())  # which `bulkhead device TYPE` takes as options
    yield from differences(dict.fromkeys(taken), "the program", dict.fromkeys(set(re.findall(r"--([a-z-]+)", help_text)) - (keys - taken)), "--help")
    yield from differences(dict.fromkeys(taken), "the program",
                           dict.fromkeys(set(re.findall(r"--([a-z]+(?:-[a-z]+)*)", plain(read(page)))) - (keys - taken)), page)


# --- Metrics ---

# The labels of each scope's series, besides those that a series has of its own.
SCOPES = {"GUEST": {"guest"}, "PROCESS": {"guest", "process", "role"}, "DEVICE": {"guest", "device"},
          "QUEUE": {"guest", "device", "queue", "direction"}}


def series():
    """{name: (type, labels of its scope)}, by the table."""
    found = {name: (kind, SCOPES[scope]) for name, kind, scope in
             re.findall(r'^\t\{ "(bulkhead_\w+)", "(\w+)", ".*?", SCOPE_(\w+),', read("procs/ctl/series.c"), re.M)}
    return {**found, "bulkhead_build_info": ("gauge", set())}


def check_series():
    page = {name: (kind, set(labels.split(", "))) for name, kind, labels in
            re.findall(r"^\.B (bulkhead_\w+)\n\((\w+); ([\w, ]+)\)", read("deploy/man/bulkhead-metrics.7"), re.M)}
    table = series()
    yield from differences(dict.fromkeys(table), "series.c", dict.fromkeys(page), "bulkhead-metrics.7")
    for name in set(table) & set(page):
        if table[name][0] != page[name][0]:
            yield f"{name} is a {table[name][0]}, documented as {page[name][0]}"
        if not table[name][1] <= page[name][1]:
            yield f"{name}: the page lacks {table[name][1] - page[name][1]}"
        if (table[name][0] == "counter") != name.endswith("_total"):
            yield f"{name}: a counter, and nothing else, ends in _total"


def check_uses():
    """Rules, dashboard and examples ask for series that there are."""
    known = {name + suffix for name, (kind, _) in series().items()
             for suffix in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",))}
    json.loads(read("deploy/metrics/bulkhead-dashboard.json"))
    for path in ("deploy/metrics/bulkhead.rules.yml", "deploy/metrics/bulkhead-dashboard.json"):
        used = set(re.findall(r"\bbulkhead_\w+", read(path)))
        if not used:
            yield f"{path} asks for nothing"
        for name in sorted(used - known):
            yield f"{path}: there is no {name}"


# --- vhost-user ---

def check_messages():
    """Each row of the request table: its number, whether it is served, the feature that it needs."""
    numbers = re.search(r"enum request \{(.*?)_REQUESTS_END", read("procs/frontend/protocol.h"), re.S)[1]
    numbers = {name: number for number, name in enumerate(re.findall(r"\b[A-Z][A-Z_]+\b", numbers), 1)}
    table = {}
    for row in read("procs/frontend/requests.c").split("\tROW(")[1:]:
        name, feature, legal = re.match(r"(\w+)\),.*?(?:PF\((\w+)\)|NO_FEATURE), INDEX_\w+, (\w+),", row, re.S).groups()
        table[name] = (numbers[name], "not served" if legal == "NEVER" else "served", feature)
    page = {name: (int(number), served, feature or None) for name, number, served, feature in
            re.findall(r"^\.B (\w+)\n\((\d+); ((?:not )?served)(?:; with (\w+))?\)", read("deploy/man/bulkhead-vhost-user.7"), re.M)}
    yield from differences(table, "requests.c", page, "bulkhead-vhost-user.7")


def check_features():
    """The protocol features that the frontend serves, and the requests that it makes."""
    page = read("deploy/man/bulkhead-vhost-user.7")
    bits = dict(re.findall(r"VHOST_USER_PROTOCOL_F_(\w+) = (\d+)", read("common/virtio/vhost-user.h")))
    served = re.search(r"#define SERVED(.*?)\n\n", read("procs/frontend/handle-features.c"), re.S)[1]
    served = {name: bits[name] for name in re.findall(r"VHOST_USER_PROTOCOL_F_(\w+)", served)}
    yield from differences(served, "handle-features.c", dict(re.findall(r"^\.B (\w+)\n\(bit (\d+);", page, re.M)), "bulkhead-vhost-user.7")
    requests = re.search(r"enum backend_request \{(.*?)\}", read("procs/frontend/protocol.h"), re.S)[1]
    written = re.findall(r"^\.B (\w+)\n\((\d+); with", page.split(".SH REQUESTS TO THE VMM")[1], re.M)
    yield from differences(dict(re.findall(r"BACKEND_(\w+) = (\d+)", requests)), "protocol.h", dict(written), "bulkhead-vhost-user.7")


# --- README ---

def check_readme():
    text = read("README.md")
    for path in sorted(set(re.findall(r"`((?:\.ci|common|deploy|procs|proto|tests)/[\w./@-]*)`", text))):
        if "NAME" not in path and not (ROOT / path).exists():
            yield f"{path} does not exist"
    for command in re.findall(r"^    ((?:deploy|tests)/\S+)$", text, re.M):
        if not (ROOT / command).stat().st_mode & 0o100:
            yield f"{command} cannot be run"
    listed = re.search(r"\| `common/` \|.*?`([a-z ]+)`", text)[1].split()
    built = re.search(r"foreach name : \[(.*?)\]", read("common/meson.build"), re.S)
    built = re.findall(r"'(\w+)'", built[1]) if built else re.findall(r"subdir\('(\w+)'\)", read("common/meson.build"))
    if listed != built:
        yield f"common/ is listed as {listed}, and built as {built}"
    for row, folder in (("procs", "procs"), ("tests", "tests")):
        line = re.search(rf"^\| `{row}/` \|.*$", text, re.M)[0]
        for path in (ROOT / folder).iterdir():
            if path.is_dir() and path.name != "__pycache__" and not re.search(rf"\b{path.name}\b", line.split("|", 2)[2]):
                yield f"{folder}/{path.name} is not in the map"


# --- Manual pages, pictures, package ---

SECTIONS = {"1": {"EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES"}, "5": {"FILES", "EXAMPLES"}, "7": {"FILES", "EXAMPLES"}}


def check_sections():
    installed = re.search(r"install_man\((.*?)\)", read("deploy/meson.build"), re.S)[1]
    for path in sorted((ROOT / "deploy/man").iterdir()):
        text = path.read_text()
        for missing in sorted(SECTIONS[path.suffix[1:]] - set(re.findall(r"^\.SH (.*)$", text, re.M))):
            yield f"{path.name} has no section {missing}"
        if f"'man/{path.name}'" not in installed:
            yield f"{path.name} is not installed"
        for name in re.findall(r"^\.BR (bulkhead[\w.\\-]*) \(\d\)", text, re.M):
            if not list((ROOT / "deploy/man").glob(name.replace("\\", "") + ".?")):
                yield f"{path.name} names {name}, which is no page"


def check_pictures():
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([ROOT / "deploy/pictures", folder], check=True)
        for path in sorted(pathlib.Path(folder).iterdir()):
            if path.read_text() != read(f"deploy/{path.name}"):
                yield f"deploy/{path.name} is not what deploy/pictures draws; run it"


def check_package():
    version = re.search(r"version: '(.*?)'", read("meson.build"))[1]
    packed = re.match(r"bulkhead \((.*?)\)", read("deploy/debian/changelog"))[1]
    if packed != version:
        yield f"deploy/debian/changelog has release {packed}, meson.build {version}"
    listed = set(re.search(r"^build: (.*)$", read("deploy/packages"), re.M)[1].split())
    wanted = set(re.findall(r"[\w.-]+", re.search(r"Build-Depends: (.*?)\n\n", read("deploy/debian/control"), re.S)[1]))
    for name in sorted(name for name in listed if name.startswith("lib") and name.endswith("-dev")):
        if name not in wanted | {"libc6-dev", "libsubunit-dev"}:
            yield f"{name} is in deploy/packages, and no Build-Depends of deploy/debian/control"


def check_examples():
    page = read("deploy/man/bulkhead-operations.7").replace("\\-", "-").replace("\\e", "\\")
    for path in sorted((ROOT / "deploy/examples").iterdir()):
        for line in path.read_text().splitlines():
            if line and not line.startswith("#") and line not in page:
                yield f"{path.name}: {line} is not in bulkhead-operations(7)"


CHECKS = (
    ("rights.md says what the units leave", check_rights),
    ("rights.md says who may ask what", check_requests),
    ("bulkhead.conf(5) has the keys, their limits and defaults", check_keys),
    ("every common key is among the hints", check_hints),
    ("the journal's catalogue has each event", check_events),
    ("bulkhead: options, --help and manual page", lambda: check_options("procs/launcher/main.c", "deploy/man/bulkhead.1")),
    ("bulkheadctl: options, --help and manual page", lambda: check_options("procs/ctl/main.c", "deploy/man/bulkheadctl.1")),
    ("manual pages have their sections, and name pages that are there", check_sections),
    ("pictures are what deploy/pictures draws", check_pictures),
    ("the package's release and dependencies", check_package),
    ("examples are those of bulkhead-operations(7)", check_examples),
    ("bulkhead-metrics(7) has the series of bulkheadctl metrics", check_series),
    ("alert rules and dashboard ask for series that there are", check_uses),
    ("bulkhead-vhost-user(7) has the table of requests", check_messages),
    ("bulkhead-vhost-user(7) has the protocol features and our own requests", check_features),
    ("README.md speaks of what is there", check_readme),
)


def main():
    tell((text, check()) for text, check in CHECKS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
