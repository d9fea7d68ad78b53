"""The client programs of transports: this machine's shell, ``adb`` and ``ssh``.

The system's programs are used, so that the user's keys, configuration and adb server apply.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tempfile

from hwnas.devices.profile import Remote
from hwnas.errors import DeviceError

CONNECT_TIMEOUT_S = 15.0


class LocalConnection:
    """A shell of this machine."""

    def connect(self) -> None:
        """Return at once: the shell is always there."""

    def argv(self, script: str) -> list[str]:
        return ["sh", "-c", script]

    def user_command(self, script: str) -> list[str]:
        return self.argv(script)

    def explain(self, output: str) -> str:
        return ""

    def close(self) -> None:
        """Nothing to do: nothing stays open."""


class AdbConnection:
    """The system's ``adb``, for a phone."""

    def __init__(self, name: str, serial: str) -> None:
        self.name, self.serial = name, serial

    def connect(self) -> None:
        if self._network():
            # it exits 0 even when it failed to connect: only `adb devices` tells
            _client(self.name, ["adb", "disconnect", self.serial])
            _client(self.name, ["adb", "connect", self.serial])
        states = self._states()
        if not self.serial:
            if len(states) != 1:
                attached = ", ".join(sorted(states)) or "none"
                raise DeviceError(
                    f"{self.name}: expected one attached phone, found {attached}; give its serial "
                    "number in the profile: [remote] serial = ..., as `adb devices` lists it"
                )
            [self.serial] = states
        state = states.get(self.serial, "missing")
        if state != "device":
            raise DeviceError(f"{self.name}: {self.serial} is {state}; {_ADVICE.get(state, '')}")

    def argv(self, script: str) -> list[str]:
        return ["adb", "-s", self.serial, "shell", script]

    def user_command(self, script: str) -> list[str]:
        return self.argv(script)

    def explain(self, output: str) -> str:
        if "unauthorized" in output:
            return f"{self.serial} is unauthorized; {_ADVICE['unauthorized']}"
        return ""

    def close(self) -> None:
        """Leave the adb server and its connections to the user."""

    def _network(self) -> bool:
        host, _, port = self.serial.rpartition(":")
        return bool(host) and port.isdigit()

    def _states(self) -> dict[str, str]:
        lines = _client(self.name, ["adb", "devices"]).splitlines()
        rows = [line.split("\t") for line in lines if "\t" in line]
        return {row[0]: row[1].split()[0] for row in rows if row[1].split()}


_ADVICE = {
    "missing": "is it attached, with USB debugging on? `adb devices` lists attached phones",
    "offline": "attach it again, or `adb reconnect offline`",
    "unauthorized": "unlock it and accept this computer's key",
    "no": "no permission to open it: see `adb devices -l`",
}


class SshConnection:
    """The system's ``ssh``; all commands share one connection."""

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

    def user_command(self, script: str) -> list[str]:
        return ["ssh", *self._profile_options(), "--", self.remote.host, script]

    def explain(self, output: str) -> str:
        for sign, advice in _SSH_FAILURES.items():
            if sign in output:
                return f"{self.remote.host}: {output.strip()}; {advice}"
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
        return words + self._profile_options()

    def _profile_options(self) -> list[str]:
        """Return the profile's options, which come on top of the user's ssh configuration."""
        remote, words = self.remote, list[str]()
        if remote.known_hosts_file:
            words += ["-o", f'UserKnownHostsFile="{remote.known_hosts_file}"']
        if remote.identity_file:
            words += ["-o", "IdentitiesOnly=yes", "-i", remote.identity_file]
        return words + (["-p", str(remote.port)] if remote.port else [])

    def _control(self, command: str) -> None:
        argv = [*self._ssh(), "-O", command, "--", self.remote.host]
        try:
            subprocess.run(argv, capture_output=True, timeout=CONNECT_TIMEOUT_S, check=False)
        except FileNotFoundError:
            raise DeviceError(f"{self.name}: ssh is not installed here") from None
        except subprocess.TimeoutExpired:
            pass  # a master that hangs is ended by its own ServerAlive limits


_SSH_FAILURES = {
    "Host key verification failed": "its key is unknown or has changed: compare it, then run "
    "`ssh-keyscan`, or `ssh` once by hand",
    "Permission denied": "it does not accept your key: run `ssh-copy-id`",
    "Connection refused": "no ssh server answers there",
    "Could not resolve": "is the host name right?",
    "No route to host": "is it on, and on this network?",
    "Connection timed out": "is it on, and on this network?",
}


def _client(name: str, argv: list[str]) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, timeout=CONNECT_TIMEOUT_S, check=False)
    except FileNotFoundError:
        raise DeviceError(
            f"{name}: adb is not installed here: apt-get install adb, or Android's platform tools"
        ) from None
    except subprocess.TimeoutExpired:
        raise DeviceError(
            f"{name}: `{shlex.join(argv)}` did not end within {CONNECT_TIMEOUT_S:.0f} s"
        ) from None
    return done.stdout.decode(errors="replace")
