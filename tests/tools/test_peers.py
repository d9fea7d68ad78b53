"""Searches of other libraries beside hwnas's: on the same problems, with queries counted in the
same way."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from hwnas.files import read_lines
from hwnas.pretrained.load import load_source
from hwnas.spaces.mobile.space import mobile_space
from tools.peers import fine_tuning, plain_tuning, regrets
from tools.peers.block_tables import by_tensorflow, chosen_blocks
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


def test_a_run_and_a_script_are_compared_in_points() -> None:
    def pair(seed: int, own: float, plain: float) -> fine_tuning.Pair:
        script = plain_tuning.Tuned(pixels=96, epochs=7, cpu_s=60.0, validation=0.8, test=plain)
        return fine_tuning.Pair(
            data="signs", minutes=10.0, seed=seed, cpu_s=66.4, budget_ms=1.0, own_px=128,
            own_ms=0.97, own_test=own, plain=script, plain_ms=0.8,
        )  # fmt: skip

    text, rows = fine_tuning.texts([pair(0, 0.92, 0.9), pair(1, 0.94, 0.9)], 50)
    assert "Gain: +3.0 ± 1.4 points" in text
    assert "| signs | 0 | 66 | 1.00 | 128 | 0.97 | 92.0 | 96 | 0.80 | 7 | 90.0 | +2.0 |" in rows


def test_the_rate_of_the_script_rises_and_falls_to_zero() -> None:
    rates = [plain_tuning.rate(step, 100) for step in range(100)]
    assert max(rates) == rates[10] == plain_tuning.RATE
    assert rates[0] == pytest.approx(plain_tuning.RATE / 10) and rates[99] < 1e-2 * rates[10]


def test_the_network_of_the_script_is_that_of_hwnas() -> None:
    pytest.importorskip("timm")
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    ours = load_source(plain_tuning.NETWORK).at((3, 64, 64)).network()
    with torch.inference_mode():
        network: Any = plain_tuning._network(5).eval()
        torch.testing.assert_close(network.forward_features(image), ours.blocks[:-1](image))


def test_blocks_of_a_table_are_of_all_sizes_and_a_child_times_each(tmp_path: Path) -> None:
    blocks = chosen_blocks(12)
    assert len(set(blocks)) == 12 and {block.op for block in blocks} >= {"mbconv", "fused_mbconv"}
    areas = [block.in_shape[1] * block.in_shape[2] for block in blocks]
    assert max(areas) > 4 * min(areas)
    script = tmp_path / "child.py"
    answer = "{'converted_s': [0.5] * len(b), 'timed_s': [0.25] * len(b)"
    script.write_text(
        "import json, sys\nb = json.load(open(sys.argv[1]))\n"
        f"assert b[0]['op'] == {blocks[0].op!r}\nprint(json.dumps({answer}, 'version': '2'}}))\n"
    )
    done = by_tensorflow(Path(sys.executable), blocks, tmp_path, script)
    assert done == (([0.5] * 12, 3.0), "2")
