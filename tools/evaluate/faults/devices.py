"""Attached devices and their faults: what happens, on a real adbd and a real sshd.

    python -m tools.evaluate.faults.devices

Runs tests/lab/ (root, Debian packages: .ci/run) and writes each of its sentences with its outcome
to results/devices.md.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from xml.etree import ElementTree

from hwnas.devices.fingerprint import hardware
from tools.lib.results import ROOT

RESULT = ROOT / "tools" / "results" / "device_faults.md"


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "junit.xml"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "tests/lab", "-q", f"--junitxml={report}"], cwd=ROOT
        )
        cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    counts = {
        outcome: sum(_outcome(case) == outcome for case in cases)
        for outcome in map(_outcome, cases)
    }
    lines = [
        "# Attached devices: faults, and what was told\n",
        f"`python -m tools.evaluate.faults.devices` · {date.today()} · {hardware()}\n",
        "AOSP's adbd on x86-64 and on arm64 (qemu-user), OpenSSH's sshd, each in a network "
        "namespace. Unauthorised and the `benchmark_model` binary are played by scripts: this adbd "
        "asks for no key, and no package holds the binary. No phone was at hand.\n",
        " · ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())) + "\n",
        "| what is true | where | outcome | s |",
        "| --- | --- | --- | --- |",
    ]
    for case in cases:
        name, _, where = case.get("name", "").partition("[")
        sentence = name.removeprefix("test_").replace("_", " ")
        shown = where.rstrip("]").replace("|", "\\|").encode("unicode_escape").decode()[:40]
        seconds = float(case.get("time", "0"))
        lines.append(f"| {sentence} | {shown} | {_outcome(case)} | {seconds:.1f} |")
    RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(RESULT)
    return done.returncode


def _outcome(case: ElementTree.Element) -> str:
    if case.find("skipped") is not None:
        return "skipped"
    broken = case.find("failure") is not None or case.find("error") is not None
    return "failed" if broken else "holds"


if __name__ == "__main__":
    sys.exit(main())
