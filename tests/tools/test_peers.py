"""Searches of other libraries beside hwnas's: the same problems, queries counted alike."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from hwnas.files import read_lines
from hwnas.spaces.mobile.space import mobile_space
from tools.peers import regrets
from tools.peers.problems import Tabular
from tools.peers.proxyless_step import hwnas_steps
from tools.peers.regrets import OWN, PEERS, Peer, Run, run_all, text
from tools.peers.search_step import Steps, report

SIZES = (4, 3, 5)
COUNT = 60
PEER_SCRIPT = """
import json, sys
import numpy as np
method, seed, queries, *files = sys.argv[1:]
for file in files:
    problem = np.load(file)
    keeping = np.flatnonzero(problem["latency_ms"] <= problem["limit_ms"])
    order = keeping[:int(queries)].tolist()
    print(json.dumps({"order": order, "cpu_s": 0.5, "version": "1.0"}))
"""


def a_problem(name: str = "small 50%") -> Tabular:
    """Network n has the accuracy n and the latency n; 30 is the last within the limit."""
    values = np.arange(COUNT, dtype=float)
    return Tabular(name, SIZES, values, values, 30.0, (5, 10, 20))


def test_a_problem_is_the_same_for_searches_and_in_its_file(tmp_path: Path) -> None:
    each = a_problem()
    choices = np.array([[0, 0, 0], [1, 2, 3], [3, 2, 4]])
    assert each.problem().accuracy(choices).tolist() == [0.0, 28.0, 59.0]
    assert each.best == 30.0
    stored = np.load(each.write(tmp_path))
    assert stored["accuracy"][np.ravel_multi_index((1, 2, 3), SIZES)] == 28.0
    assert stored["limit_ms"] == 30.0


@pytest.mark.parametrize("method", list(OWN))
def test_regrets_fall_and_count_networks_within_the_limit_only(method: str) -> None:
    run = regrets._own_run(method, a_problem(), 0)
    assert 5 < len(run.regrets) <= 20
    assert min(run.regrets) >= 0  # none over the limit, which would be better than the best
    assert list(run.regrets) == sorted(run.regrets, reverse=True)


def test_a_peer_runs_in_its_own_python_and_finished_searches_are_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "peer.py"
    script.write_text(PEER_SCRIPT)
    monkeypatch.setattr(regrets, "SCRIPTS", tmp_path)
    monkeypatch.setattr(regrets, "PEERS", {"first networks": Peer("small", "peer.py", "first")})
    problems, pythons = [a_problem(), a_problem("other 50%")], {"small": Path(sys.executable)}
    runs = list(run_all(tmp_path, problems, pythons, 1))
    assert len(runs) == 2 * (len(OWN) + 1)
    peer = runs[-1]
    assert (peer.method, peer.version, peer.cpu_s) == ("first networks", "small 1.0", 0.5)
    assert peer.regrets[0] == 30.0 and peer.regrets[-1] == 11.0  # network 19 is the twentieth
    assert list(run_all(tmp_path, problems, pythons, 1)) == []
    assert list(read_lines(tmp_path / "searches.jsonl", Run)) == runs


def test_a_peer_whose_library_is_not_given_is_left_out(tmp_path: Path) -> None:
    runs = list(run_all(tmp_path, [a_problem()], {}, 1))
    assert {run.method for run in runs} == set(OWN)


def test_a_row_has_the_queries_to_an_equal_regret() -> None:
    [peer, *_] = PEERS
    runs = [
        Run(peer, "small 50%", 0, (5.0, 0.2, 0.0), 1.0, "optuna 5"),
        Run(peer, "small 50%", 1, (3.0, 3.0, 0.1), 3.0, "optuna 5"),
        Run("random", "small 50%", 0, (5.0, 4.0, 4.0), 0.1, "hwnas"),
    ]
    page = "\n".join(text([a_problem()._replace(queries=(1, 3))], runs))
    assert f"| {peer} | 2 | 4.00 ± 1.41 | 0.05 ± 0.07 | 2 | 2.000 |" in page
    assert "| hwnas, random | 1 | 5.00 | 4.00 | > 3 | 0.100 |" in page
    assert "Libraries: optuna 5." in page


def test_a_search_step_is_timed_without_the_first_steps_and_compared_in_turns() -> None:
    own = [Steps((9.0, 9.0, 4.0, 6.0, 5.0), 50.0, "hwnas")] * 2
    peer = [Steps((9.0, 9.0, 10.0), 100.0, "3.0"), Steps((9.0, 9.0, 20.0), 100.0, "3.0")]
    text, rows = report({"hwnas": own, "nni": peer}, 64)
    assert "time 0.38 (0.25 to 0.50), memory 0.50 (0.50 to 0.50)" in text
    assert "| hwnas, proxyless | 2 | 5 (5 to 5) | 50 (50 to 50) |" in rows


def test_hwnas_takes_a_step_for_each_batch() -> None:
    space = mobile_space((1, 28, 28), 10)
    small = msgspec.structs.replace(space, stages=space.stages[:1])
    batch = (torch.randn(2, 1, 28, 28), torch.tensor([1, 2]))
    line = msgspec.json.decode(hwnas_steps(small, [batch] * 3), type=Steps)
    assert len(line.steps_ms) == 3 and min(line.steps_ms) > 0 and line.mb >= 0
