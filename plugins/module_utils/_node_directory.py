# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory on a node that has a POSIX shell and no Python.

Everything is done by two small scripts: one reads the state and one changes it and reads it again.
They use what POSIX sh, `stat -c` and `readlink` give, which busybox has as well as coreutils.
A script answers with records: one a line, fields separated by tabs, the first one naming the record.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any, Literal

from ansible_collections.mlops.mlflow.plugins.module_utils._difference import Difference
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "path": {"type": "raw", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "owner": {"type": "str", "default": "0"},
    "group": {"type": "str"},
    "mode": {"type": "raw", "default": "0750"},
    "files": {"type": "dict", "default": {}},
    "file_mode": {"type": "raw", "default": "0640"},
    "min_free_mb": {"type": "int", "default": 0},
}

# Directories that the system or Kubernetes owns; those of CLOSED are refused with everything below them.
CLOSED = tuple(
    "/bin /boot /dev /etc /lib /lib32 /lib64 /libx32 /proc /run /sbin /sys /usr"  # noqa: SIM905 (a list of words)
    " /var/run /var/lock /var/cache /var/spool /var/lib/cni /var/lib/containerd /var/lib/containers /var/lib/docker"
    " /var/lib/dpkg /var/lib/etcd /var/lib/kubelet /var/lib/minikube /var/lib/rancher /var/lib/systemd".split()
)
OPEN = tuple("/ /data /home /media /mnt /opt /root /srv /tmp /var /var/lib /var/log /var/tmp".split())  # noqa: SIM905
# File systems in memory: what is stored there is gone when the node restarts (Minikube's VMs have a tmpfs as root).
VOLATILE = frozenset({"tmpfs", "ramfs", "rootfs"})
# Files here are small markers; their content travels in a script and is read back for the diff.
MAX_FILE_BYTES = 65536

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\$?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Wanted:
    """What the task asks for. `owner` and `group` are numbers or names as text; modes are permission bits."""

    path: str
    state: Literal["present", "absent"] = "present"
    owner: str = "0"
    group: str = "0"
    mode: int = 0o750
    files: Mapping[str, str] = field(default_factory=dict)
    file_mode: int = 0o640
    min_free_mb: int = 0

    @property
    def ancestors(self) -> list[str]:
        """The directories above `path`, outermost first, without the root."""
        return [str(parent) for parent in reversed(PurePosixPath(self.path).parents)][1:]

    def file_path(self, name: str) -> str:
        """The full path of the file `name` in the directory."""
        return f"{self.path}/{name}"


@dataclass(frozen=True)
class Entry:
    """One thing that exists on the node. `kind` is link, directory, file or what `stat` calls it."""

    kind: str
    uid: int = -1
    gid: int = -1
    mode: int = -1
    target: str = ""
    content: bytes | None = None


@dataclass
class Found:
    """What the reading script found."""

    entries: dict[str, Entry] = field(default_factory=dict)
    uid: int | None = None
    gid: int | None = None
    free_mb: int = 0
    filesystem: str = ""
    mounts: list[str] = field(default_factory=list)


def parse_mode(value: Any, option: str) -> int:
    """Permission bits of an octal text such as '0750'; a number is refused, as YAML has read it in its own way."""
    if isinstance(value, str) and re.fullmatch(r"0?[0-7]{3,4}", value):
        return int(value, 8)
    raise MlopsError(f"{option} must be an octal mode in quotes such as '0750', not {value!r}.")


def parse_path(value: Any) -> str:
    """The node path, if it is one that may be owned by MLflow.

    Raises MlopsError for what is not an absolute, plain path below the system's own directories.
    """
    if not isinstance(value, str) or not value:
        raise MlopsError(f"path must be a directory on the node such as /data/mlflow, not {value!r}.")
    if not value.startswith("/"):
        raise MlopsError(f"path {value!r} is relative: give the absolute path of a directory on the node.")
    if _CONTROL.search(value):
        raise MlopsError(f"path {value!r} contains control characters: give a plain path such as /data/mlflow.")
    if ".." in value.split("/"):
        raise MlopsError(f"path {value!r} contains '..': give the directory's own path.")
    path = "/" + "/".join(part for part in value.split("/") if part not in {"", "."})
    if path in OPEN or any(path == closed or path.startswith(closed + "/") for closed in CLOSED):
        raise MlopsError(
            f"path {path!r} belongs to the node's system: choose a directory of its own such as /data/mlflow.",
            path=path,
        )
    return path


def parse_account(value: str, option: str) -> str:
    """A user or group given by number or name; raises MlopsError for anything else."""
    if value.isascii() and (value.isdigit() or _NAME.fullmatch(value)):
        return value
    raise MlopsError(f"{option} must be a number or a name that the node knows, not {value!r}.")


def parse_files(files: Mapping[Any, Any]) -> dict[str, str]:
    """The files to keep in the directory: plain names and text; raises MlopsError for others."""
    result = {}
    for name, content in files.items():
        if not isinstance(name, str) or not name or "/" in name or name in {".", ".."} or _CONTROL.search(name):
            raise MlopsError(f"files: {name!r} is not a plain file name.")
        if not isinstance(content, str) or "\0" in content:
            raise MlopsError(f"files: the content of {name!r} must be text.")
        if len(content.encode()) > MAX_FILE_BYTES:
            raise MlopsError(f"files: the content of {name!r} is larger than {MAX_FILE_BYTES // 1024} KiB.")
        result[name] = content
    return result


def parse_wanted(parameters: Mapping[str, Any]) -> Wanted:
    """The task's parameters, checked without touching the node; raises MlopsError for the first wrong one."""
    path = parse_path(parameters["path"])
    owner = parse_account(parameters["owner"], "owner")
    if parameters["min_free_mb"] < 0:
        raise MlopsError(f"min_free_mb must not be negative, but is {parameters['min_free_mb']}.")
    return Wanted(
        path=path,
        state=parameters["state"],
        owner=owner,
        group=parse_account(owner if parameters["group"] is None else parameters["group"], "group"),
        mode=parse_mode(parameters["mode"], "mode"),
        files=parse_files(parameters["files"]),
        file_mode=parse_mode(parameters["file_mode"], "file_mode"),
        min_free_mb=parameters["min_free_mb"],
    )


# --- The scripts -----------------------------------------------------------------------------------------------------

# Runs the script on standard input as root, or says why it cannot. A login shell of any kind may start it.
AS_ROOT = r"""
if [ "$(id -u)" = 0 ]; then exec /bin/sh -s; fi
if ! command -v sudo >/dev/null 2>&1; then printf 'sudo\tsudo: command not found\n'; exit 0; fi
if ! why=$(sudo -n /bin/sh -c : 2>&1 </dev/null); then printf 'sudo\t'; printf '%s' "$why" | tr '\t\n' '  '; exit 0; fi
exec sudo -n /bin/sh -s
"""

# `run` leaves a command's output in $out, or reports the failure and ends the script.
_PRELUDE = r"""
LC_ALL=C; export LC_ALL
say() { printf '%s' "$1"; shift; for value; do printf '\t%s' "$value"; done; echo; }
run() {
  out=$("$@" 2>&1 </dev/null) && return 0
  code=$?; say failed "$code" "$*" "$(printf '%s' "$out" | tr '\t\n' '  ')"; exit 0
}
"""

# `write` goes by way of a new file beside the directory, where only root can write: whoever owns the directory can
# then not divert the write by a link of the file's name. `cat` names the reason when the disk is full.
_WRITE = r"""
save() { printf %s "$content" | cat >"$file"; }
write() { # path, owner, mode, content
  run mktemp "${leaf%/*}/.node_directory.XXXXXX"
  file=$out content=$4
  trap 'rm -f "$file"' EXIT
  run save "$1"
  run chown "$2" "$file"
  run chmod "$3" "$file"
  run mv -f "$file" "$1"
}
"""

# Arguments of look: a path. Prints nothing for what does not exist; succeeds only for a directory.
_READ = r"""
look() {
  if [ -L "$1" ]; then kind=link; elif [ -d "$1" ]; then kind=directory; elif [ -f "$1" ]; then kind=file
  elif [ -e "$1" ]; then kind=$(stat -c %F "$1"); else return 1; fi
  say entry "$1" "$kind" "$(stat -c '%u %g %a' "$1")" "$(readlink "$1" | tr '\t\n' '  ')"
  [ "$kind" = directory ]
}
read_file() {
  look "$1"
  if [ ! -L "$1" ] && [ -f "$1" ] && [ "$(stat -c %s "$1")" -le "$2" ]; then
    say content "$1" "$(od -An -v -tx1 "$1" | tr -d ' \n')"
  fi
}
account() { # database, name: its number
  case $2 in *[!0-9]*) ;; *) say "$1" "$2"; return ;; esac
  if [ "$1" = passwd ]; then number=$(id -u "$2" 2>/dev/null)
  else number=$(sed -n "s/^$2:[^:]*:\([0-9]*\):.*/\1/p" /etc/group)
    if [ -z "$number" ] && command -v getent >/dev/null; then number=$(getent group "$2" | cut -d: -f3); fi
  fi
  say "$1" "$number"
}
"""


def read_script(wanted: Wanted) -> str:
    """The script that prints what is on the node; it changes nothing."""
    quote = shlex.quote
    lines = [
        _PRELUDE,
        _READ,
        "existing=/",
        "for path in " + " ".join(map(quote, [*wanted.ancestors, wanted.path])),
        'do if look "$path"; then existing=$path; else break; fi; done',
        f"leaf={quote(wanted.path)}",
        'say space "$(stat -f -c "%a %S %T" "$existing")"',
        f"account passwd {quote(wanted.owner)}",
        f"account group {quote(wanted.group)}",
        'while read -r _ mount _; do case $mount in "$leaf"|"$leaf"/*) say mount "$mount";; esac; done </proc/mounts',
    ]
    if wanted.files:
        names = " ".join(quote(wanted.file_path(name)) for name in wanted.files)
        lines.append(
            f'if [ "$existing" = "$leaf" ]; then for f in {names}; do read_file "$f" {MAX_FILE_BYTES}; done; fi'
        )
    return "\n".join([*lines, "say end", ""])


def apply_script(wanted: Wanted, found: Found) -> str:
    """The script that makes what is wanted of what was found, then prints what is there now."""
    quote = shlex.quote
    leaf = quote(wanted.path)
    lines = [_PRELUDE, _WRITE, "umask 022", f"leaf={leaf}"]
    if wanted.state == "absent":
        return "\n".join([*lines, 'run rm -rf "$leaf"', read_script(wanted)])
    entry = found.entries.get(wanted.path)
    owner = f"{found.uid}:{found.gid}"
    if entry is None:
        lines += ['run mkdir -p "${leaf%/*}/"', 'run mkdir -m 0700 "$leaf"']
    if entry is None or (entry.uid, entry.gid) != (found.uid, found.gid):
        lines.append(f'run chown {owner} "$leaf"')
    # Five digits: GNU chmod keeps a directory's setuid and setgid bits otherwise.
    lines.append(f'run chmod {wanted.mode:05o} "$leaf"')
    lines += [
        f"write {quote(wanted.file_path(name))} {owner} {wanted.file_mode:04o} {quote(content)}"
        for name, content in wanted.files.items()
        if file_difference(wanted, found, name)
    ]
    return "\n".join([*lines, read_script(wanted)])


def parse_found(stdout: str) -> Found:
    """Read a script's answer; raises MlopsError where it says that a command failed or stopped early."""
    found = Found()
    ended = False
    for line in stdout.split("\n"):
        match line.split("\t"):
            case ["sudo", reason]:
                raise MlopsError(
                    "The node's user is not root and may not use sudo without a password: give it passwordless sudo"
                    f" (as Minikube's own user has) or connect as root. The node says: {reason.strip()}",
                    command="sudo -n /bin/sh",
                    stderr=reason.strip(),
                )
            case ["failed", code, command, output]:
                raise MlopsError(
                    f"On the node, `{command}` failed with exit code {code}: {output.strip() or 'no output'}",
                    command=command,
                    rc=int(code),
                    stderr=output.strip(),
                )
            case ["entry", path, kind, numbers, target]:
                uid, gid, mode = numbers.split()
                found.entries[path] = Entry(kind, int(uid), int(gid), int(mode, 8), target.strip())
            case ["content", path, digits]:
                found.entries[path] = replace(found.entries[path], content=bytes.fromhex(digits))
            case ["space", text]:
                blocks, block_size, found.filesystem = text.split(maxsplit=2)
                found.free_mb = int(blocks) * int(block_size) // 1024**2
            case ["passwd", number]:
                found.uid = int(number) if number.isdigit() else None
            case ["group", number]:
                found.gid = int(number) if number.isdigit() else None
            case ["mount", path]:
                found.mounts.append(path)
            case ["end"]:
                ended = True
    if not ended:
        raise MlopsError(
            "The node's shell stopped before its answer was complete; it needs /bin/sh, stat and readlink.",
            stdout=stdout,
        )
    return found


# --- Judgement -------------------------------------------------------------------------------------------------------


def refuse(wanted: Wanted, found: Found) -> None:
    """Raise MlopsError for anything on the node that must not be touched; nothing has been changed yet."""
    for path in [*wanted.ancestors, wanted.path]:
        entry = found.entries.get(path)
        if entry and entry.kind == "link":
            raise MlopsError(
                f"{path} on the node is a symbolic link to {entry.target}: give the path of the directory itself.",
                path=path,
            )
        if entry and entry.kind != "directory":
            raise MlopsError(f"{path} on the node is a {entry.kind}, not a directory: choose another path.", path=path)
    if wanted.state == "present":
        _refuse_to_make(wanted, found)
    elif found.mounts:
        raise MlopsError(
            f"{wanted.path} cannot be removed as {found.mounts[0]} is a mount point on the node: unmount it first.",
            path=wanted.path,
        )


def _refuse_to_make(wanted: Wanted, found: Found) -> None:
    for option, name, number in (("owner", wanted.owner, found.uid), ("group", wanted.group, found.gid)):
        if number is None:
            raise MlopsError(f"{option} {name!r} is not known on the node: give a number or a name that exists there.")
    for path in map(wanted.file_path, wanted.files):
        entry = found.entries.get(path)
        if entry and entry.kind != "file":
            raise MlopsError(f"{path} on the node is a {entry.kind}, not a file: remove it or choose another name.")
    if low_space(wanted, found) and wanted.path not in found.entries:
        raise MlopsError(
            f"No space on the node: {found.free_mb} MB are free for {wanted.path}, but {wanted.min_free_mb} MB are"
            " asked for (min_free_mb): make room, use a larger disk or choose another path.",
            free_mb=found.free_mb,
        )


def low_space(wanted: Wanted, found: Found) -> bool:
    """Whether less is free than `min_free_mb`."""
    return found.free_mb < wanted.min_free_mb


def warnings(wanted: Wanted, found: Found) -> list[str]:
    """What the user should know although it is no error."""
    if wanted.state == "absent":
        return []
    result = []
    if low_space(wanted, found) and wanted.path in found.entries:
        result.append(f"Only {found.free_mb} MB are free on the node for {wanted.path}.")
    if found.filesystem in VOLATILE:
        result.append(
            f"{wanted.path} is in memory on the node ({found.filesystem}) and does not survive a restart of the node:"
            " choose a path below /data."
        )
    return result


def directory_difference(wanted: Wanted, found: Found) -> Difference:
    """How the directory itself differs; accounts are compared as numbers, modes are shown as octal text."""
    entry = found.entries.get(wanted.path)
    actual: dict[str, Any] = {"state": "present" if entry else "absent"}
    if wanted.state == "absent":
        return Difference.between(actual, {"state": "absent"})
    if entry:
        actual |= {"owner": entry.uid, "group": entry.gid, "mode": f"{entry.mode:04o}"}
    difference = Difference.between(
        actual, {"state": "present", "owner": found.uid, "group": found.gid, "mode": f"{wanted.mode:04o}"}
    )
    missing = [path for path in wanted.ancestors if path not in found.entries]
    difference.compare("created_parents", [], missing)
    return difference


def file_difference(wanted: Wanted, found: Found, name: str) -> Difference:
    """How one file in the directory differs."""
    entry = found.entries.get(wanted.file_path(name))
    actual: dict[str, Any] = {}
    if entry:
        text = "(binary or large)" if entry.content is None else entry.content.decode(errors="backslashreplace")
        actual = {"owner": entry.uid, "group": entry.gid, "mode": f"{entry.mode:04o}", "content": text}
    return Difference.between(
        actual,
        {"owner": found.uid, "group": found.gid, "mode": f"{wanted.file_mode:04o}", "content": wanted.files[name]},
    )


def differences(wanted: Wanted, found: Found) -> dict[str, Difference]:
    """All that differs, by path."""
    result = {wanted.path: directory_difference(wanted, found)}
    if wanted.state == "present":
        result |= {wanted.file_path(name): file_difference(wanted, found, name) for name in wanted.files}
    return {path: difference for path, difference in result.items() if difference}


def as_diff(changes: Mapping[str, Difference]) -> list[dict[str, Any]]:
    """Ansible's own diff records, one a path."""
    return [
        {"before_header": path, "after_header": path, "before": change.before, "after": change.after}
        for path, change in changes.items()
    ]


def describe(wanted: Wanted, found: Found) -> dict[str, Any]:
    """The result keys that tell what is, or in check mode would be, on the node."""
    result: dict[str, Any] = {"path": wanted.path, "state": wanted.state}
    if wanted.state == "present":
        result |= {
            "owner": found.uid,
            "group": found.gid,
            "mode": f"{wanted.mode:04o}",
            "files": sorted(wanted.files),
            "free_mb": found.free_mb,
            "filesystem": found.filesystem,
        }
    return result
