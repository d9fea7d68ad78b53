"""Hosts that ssh reaches, each in a network namespace of its own, which keep ledgers.

A host's Python notes each request of a worker before it serves it and once it has served it. So the
ledgers know what was measured where, whatever the side that asked believes.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from hwnas.devices.runner import Subject
from hwnas.files import read_lines
from tests.lab.bench import Host

WAIT_S = 60.0
PYTHON = """\
#!/bin/sh
request=$(mktemp -p {root})
cat > "$request"
(cat "$request"; echo) >> {root}/begun.jsonl
{python} "$@" < "$request" || exit
(cat "$request"; echo) >> {root}/served.jsonl
"""
PROFILE = """\
name = "{name}"
title = "host in a namespace"
kind = "cpu"
runtime = "onnxruntime"
transport = "ssh"
emulated = true  # the hosts share the cores of this machine
hardware = {{ source = "this machine" }}
[remote]
host = "root@{address}"
identity_file = "{root}/id"
known_hosts_file = "{root}/known_hosts"
folder = "{root}/there"
python = "{root}/python"
patience_s = 2.0
[measure]
processes = 1
warmup_s = 0.2
pin = false
"""


class LoggedHost:
    """A host with its ledgers. Needs root (`tests.lab.bench.why_not`)."""

    def __init__(self, root: Path, name: str) -> None:
        self.root, self.name, self.host = root, name, Host(root)
        python = root / "python"
        python.write_text(PYTHON.format(root=root, python=sys.executable), encoding="utf-8")
        python.chmod(0o755)

    @property
    def profile(self) -> str:
        """Its profile in TOML."""
        address = self.host.net.address
        return PROFILE.format(name=self.name, address=address, root=self.root)

    def begun(self) -> Counter[str]:
        """Return how often measuring each file was begun, by the start of its SHA-256."""
        return self._files("begun")

    def served(self) -> Counter[str]:
        """Return how often each file was measured."""
        return self._files("served")

    def busy_since_s(self) -> float:
        """Return when it began what it measures now, 0 if it measures nothing."""
        busy = self.begun() != self.served()
        return (self.root / "begun.jsonl").stat().st_mtime if busy else 0.0

    def die(self) -> None:
        """Cut it off without a word, as a power failure does."""
        self.host.net.unplug()
        self.host.net.kill()

    def _files(self, ledger: str) -> Counter[str]:
        requests = read_lines(self.root / f"{ledger}.jsonl", dict[str, Any])
        paths = (Path(model["path"]) for line in requests for model in line["models"])
        return Counter(path.parent.name for path in paths)


@contextmanager
def logged_hosts(folder: Path, count: int) -> Iterator[list[LoggedHost]]:
    """Start hosts, and remove them at the end."""
    hosts: list[LoggedHost] = []
    try:
        for number in range(count):
            hosts.append(LoggedHost(folder / f"host-{number}", f"host-{number}"))
        yield hosts
    finally:
        for each in hosts:
            each.host.remove()


def kill_busy(hosts: Sequence[LoggedHost]) -> LoggedHost:
    """Kill the host that was the last to begin what it measures; return it.

    Raises `TimeoutError` if no host measures within `WAIT_S`.
    """
    end_s = time.monotonic() + WAIT_S
    while time.monotonic() < end_s:
        since_s, _, dying = max((each.busy_since_s(), each.name, each) for each in hosts)
        if since_s:
            dying.die()
            return dying
        time.sleep(0.05)
    raise TimeoutError("no host measures")


def digest(subject: Subject) -> str:
    """Return a file's name in the ledgers."""
    return sha256(subject.path.read_bytes()).hexdigest()[:24]
