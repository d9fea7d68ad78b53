"""The clients by which devices are reached: this machine's shell, ``adb``, ``ssh``.

The system's own programs, so that a user's keys, configuration and running adb server are used.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tempfile

from hwnas.devices.profile import Remote
from hwnas.errors import DeviceError

CONNECT_S = 15.0


class LocalLink:
    """A shell of this machine."""

    def connect(self) -> None:
        """Always there."""

    def argv(self, script: str) -> list[str]:
        return ["sh", "-c", script]

    def typed(self, script: str) -> list[str]:
        return self.argv(script)

    def why(self, said: str) -> str:
        return ""

    def close(self) -> None:
        """Nothing stays open."""


class AdbLink:
    """A phone, by the system's ``adb``."""

    def __init__(self, name: str, serial: str) -> None:
        self.name, self.serial = name, serial

    def connect(self) -> None:
        if self._network():
            # it prints "failed to connect" and exits 0, so its words say nothing: the list does
            _client(self.name, ["adb", "disconnect", self.serial])
            _client(self.name, ["adb", "connect", self.serial])
        states = self._states()
        if not self.serial:
            if len(states) != 1:
                there = ", ".join(sorted(states)) or "none"
                raise DeviceError(
                    f"{self.name}: expected one attached phone, found {there}; name it in the "
                    "profile: [remote] serial = ... as `adb devices` lists it"
                )
            [self.serial] = states
        state = states.get(self.serial, "missing")
        if state != "device":
            raise DeviceError(f"{self.name}: {self.serial} is {state}; {_ADVICE.get(state, '')}")

    def argv(self, script: str) -> list[str]:
        return ["adb", "-s", self.serial, "shell", script]

    def typed(self, script: str) -> list[str]:
        return self.argv(script)

    def why(self, said: str) -> str:
        if "unauthorized" in said:
            return f"{self.serial} is unauthorized; {_ADVICE['unauthorized']}"
        return ""

    def close(self) -> None:
        """The server and its connections are the user's."""

    def _network(self) -> bool:
        host, _, port = self.serial.rpartition(":")
        return bool(host) and port.isdigit()

    def _states(self) -> dict[str, str]:
        lines = _client(self.name, ["adb", "devices"]).splitlines()
        rows = [line.split("\t") for line in lines if "\t" in line]
        return {row[0]: row[1].split()[0] for row in rows if row[1].split()}


_ADVICE = {
    "missing": "is it attached, and USB debugging on? `adb devices` lists what is there",
    "offline": "attach it again, or `adb reconnect offline`",
    "unauthorized": "unlock it and accept this computer's key",
    "no": "this user may not open it: see `adb devices -l`",
}


class SshLink:
    """A host, by the system's ``ssh``; later commands go through the first one's connection."""

    def __init__(self, name: str, remote: Remote) -> None:
        self.name, self.remote = name, remote
        self._sockets = ""
        """Folder of the shared connection's socket; `connect` makes it, `close` removes it."""

    def connect(self) -> None:
        """Drop a connection that may hang; the first command reports what is wrong."""
        self._sockets = self._sockets or tempfile.mkdtemp(prefix="hwnas-ssh-")
        self._control("exit")

    def argv(self, script: str) -> list[str]:
        return [*self._ssh(), "--", self.remote.host, f"exec sh -c {shlex.quote(script)}"]

    def typed(self, script: str) -> list[str]:
        return ["ssh", *self._named(), "--", self.remote.host, script]

    def why(self, said: str) -> str:
        for sign, why in _SSH_FAILURES.items():
            if sign in said:
                return f"{self.remote.host}: {said.strip()}; {why}"
        return ""

    def close(self) -> None:
        if self._sockets:
            self._control("exit")
            shutil.rmtree(self._sockets, ignore_errors=True)
            self._sockets = ""

    def _ssh(self) -> list[str]:
        assert self._sockets, "connect() comes first"
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "ConnectTimeout": "10",
            "ServerAliveInterval": "3",
            "ServerAliveCountMax": "3",
            "ControlMaster": "auto",
            "ControlPath": f"{self._sockets}/%C",
            "ControlPersist": "60",
        }
        words = ["ssh", "-T"]
        for name, value in options.items():
            words += ["-o", f"{name}={value}"]
        return words + self._named()

    def _named(self) -> list[str]:
        """Return what the profile says beside the user's own configuration."""
        remote, words = self.remote, list[str]()
        if remote.known_hosts_file:
            words += ["-o", f'UserKnownHostsFile="{remote.known_hosts_file}"']
        if remote.identity_file:
            words += ["-o", "IdentitiesOnly=yes", "-i", remote.identity_file]
        return words + (["-p", str(remote.port)] if remote.port else [])

    def _control(self, what: str) -> None:
        argv = [*self._ssh(), "-O", what, "--", self.remote.host]
        try:
            subprocess.run(argv, capture_output=True, timeout=CONNECT_S, check=False)
        except FileNotFoundError:
            raise DeviceError(f"{self.name}: ssh is not installed here") from None
        except subprocess.TimeoutExpired:
            pass  # a hanging master ends by its own ServerAlive limits


_SSH_FAILURES = {
    "Host key verification failed": "its key is unknown or has changed: compare it, then "
    "`ssh-keyscan` or `ssh` once by hand",
    "Permission denied": "it does not accept your key: `ssh-copy-id`",
    "Connection refused": "no ssh server answers there",
    "Could not resolve": "is the name right?",
    "No route to host": "is it on, and on this network?",
    "Connection timed out": "is it on, and on this network?",
}


def _client(name: str, argv: list[str]) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, timeout=CONNECT_S, check=False)
    except FileNotFoundError:
        raise DeviceError(
            f"{name}: adb is not installed here: apt-get install adb, or Android's platform tools"
        ) from None
    except subprocess.TimeoutExpired:
        raise DeviceError(f"{name}: `{shlex.join(argv)}` did not end") from None
    return done.stdout.decode(errors="replace")
