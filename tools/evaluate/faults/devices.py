"""Attached devices and their faults on a real adbd and a real sshd.

    python -m tools.evaluate.faults.devices

Runs tests/lab/ (root, Debian packages: .ci/run) and writes each of its sentences with its outcome
to results/devices.md.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import click

from tools.lib.results import ROOT, command, results_folder, table, write_results

RESULTS = results_folder(__file__) / "devices.md"


@click.command()
def main() -> None:
    """Run the tests of attached devices and write their outcomes."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "junit.xml"
        pytest = subprocess.run(
            [sys.executable, "-m", "pytest", "tests/lab", "-q", f"--junitxml={report}"], cwd=ROOT
        )
        cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    counts = Counter(map(_outcome, cases))
    text = (
        "AOSP's adbd on x86-64 and on arm64 (qemu-user), OpenSSH's sshd, each in a network "
        "namespace. Scripts play an unauthorised device and the `benchmark_model` binary: this "
        "adbd asks for no key, and no package has the binary. No phone was available."
    )
    write_results(
        RESULTS,
        "Attached devices: faults and their messages",
        command(__file__),
        text,
        " · ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())),
        table(["sentence", "device", "outcome", "s"], map(_row, cases)),
    )
    click.echo(RESULTS)
    sys.exit(pytest.returncode)


def _row(case: ElementTree.Element) -> list[str]:
    name, _, device = case.get("name", "").partition("[")
    sentence = name.removeprefix("test_").replace("_", " ")
    device = device.rstrip("]").replace("|", "\\|").encode("unicode_escape").decode()[:40]
    return [sentence, device, _outcome(case), f"{float(case.get('time', '0')):.1f}"]


def _outcome(case: ElementTree.Element) -> str:
    if case.find("skipped") is not None:
        return "skipped"
    broken = case.find("failure") is not None or case.find("error") is not None
    return "failed" if broken else "holds"


if __name__ == "__main__":
    main()
