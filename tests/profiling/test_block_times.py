"""Block times of networks from the runtimes' profilers, and models fitted to them."""

from __future__ import annotations

from pathlib import Path
from random import Random

import msgspec
import pytest
from click.testing import CliRunner

from hwnas.architecture.architecture import Block
from hwnas.architecture.artifact import Format
from hwnas.cli.latency.group import latency
from hwnas.devices.op_profile.local import OperatorTime
from hwnas.devices.profile import find_profile
from hwnas.errors import DeviceError, UsageError
from hwnas.export.compile import compile_model
from hwnas.latency_models.fitting import fit as fitting
from hwnas.latency_models.fitting.fit import fit_model, held_out_predictions
from hwnas.latency_models.observation import Observation
from hwnas.latency_models.storage.journal import Entry, observations_of, profiled_blocks
from hwnas.measurement.measurement import Measurement
from hwnas.nn.build import untrained
from hwnas.profiling import bench as bench_module
from hwnas.profiling import block_times
from hwnas.profiling.block_times import block_shares
from hwnas.profiling.measure import missing_profiles
from hwnas.spaces.mobile.space import mobile_space
from tests.support.data.synthetic import isolated, networks
from tests.support.reporting.sample_report import host_measurement

CHAIN = (
    Block("conv", 1, 16, 3, 2, 1, 28),
    Block("mbconv", 16, 16, 3, 1, 3, 14),
    Block("identity", 16, 16, 1, 1, 1, 14),
    Block("logits", 16, 10, 1, 1, 1, 14),
)


def rows(*named: tuple[str, float]) -> list[OperatorTime]:
    return [OperatorTime(name, name.split(":")[0], ms, 0.0, "") for name, ms in named]


def profiled(monkeypatch: pytest.MonkeyPatch, times: list[OperatorTime]) -> None:
    monkeypatch.setattr(block_times, "operator_times", lambda *_: times)


def test_an_operator_without_a_name_belongs_to_the_block_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = rows(
        ("blocks.0.conv_nchwc", 1.0), ("blocks.1.layers.expand.conv", 2.0), ("add", 1.0),
        ("ReorderOutput", 2.0), ("blocks.3.pool", 1.0), ("logits", 3.0),
    )  # fmt: skip
    profiled(monkeypatch, times)
    shares = block_shares(Path("a.onnx"), find_profile("host-cpu"), CHAIN)
    assert shares == pytest.approx((0.1, 0.5, 0.4))


def test_operators_without_names_are_assigned_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    times = rows(
        ("IGEMM:0", 1.0), ("GEMM:1", 1.0), ("DWConv:2", 1.0), ("GEMM:3", 1.0), ("Add:4", 1.0),
        ("Mean:5", 2.0), ("Static Reshape:6", 1.0), ("GEMM:7", 2.0),
    )  # fmt: skip
    profiled(monkeypatch, times)
    shares = block_shares(Path("a.tflite"), find_profile("host-cpu-litert"), CHAIN)
    assert shares == pytest.approx((0.1, 0.4, 0.5))


def test_operators_that_do_not_match_the_blocks_give_no_shares(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    profiled(monkeypatch, rows(("IGEMM:0", 1.0), ("GEMM:1", 1.0)))
    assert block_shares(Path("a.tflite"), find_profile("host-cpu-litert"), CHAIN) == ()
    profiled(monkeypatch, rows(("a", 1.0), ("b", 1.0)))
    assert block_shares(Path("a.onnx"), find_profile("host-cpu"), CHAIN) == ()


@pytest.mark.parametrize(
    ("target", "format"), [("host-cpu", "onnx"), ("host-cpu-litert", "tflite")]
)
def test_every_computing_block_has_a_share_in_the_real_runtime(
    tmp_path: Path, target: str, format: Format
) -> None:
    space = mobile_space((1, 28, 28), 10)
    blocks = space.architecture(space.random(Random(0))).blocks
    path = tmp_path / f"network.{format}"
    compile_model(untrained(blocks), (1, 28, 28), path)
    shares = block_shares(path, find_profile(target), blocks)
    assert len(shares) == sum(block.op != "identity" for block in blocks)
    assert sum(shares) == pytest.approx(1.0)


A, B = CHAIN[:2]


def entry(shares: tuple[float, ...]) -> Entry:
    return Entry((A.key, B.key, A.key), True, "0" * 64, host_measurement("measured"), 3, 1, shares)


def test_block_times_are_shares_of_the_measured_latency() -> None:
    whole, *parts = observations_of([entry((0.2, 0.5, 0.3))])
    assert [part.blocks for part in parts] == [(A,), (B,)]
    assert [part.ms / whole.ms for part in parts] == pytest.approx([0.25, 0.5])
    assert {(part.scope, part.session, part.process) for part in parts} == {("in_network", 1, 3)}
    for part in parts:
        # a microsecond for each operator
        unresolved = 0.001 * len(part.blocks[0].kernels) / part.ms
        assert part.standard_error**2 == pytest.approx(whole.standard_error**2 + unresolved**2)
        assert unresolved > 0


def test_a_network_without_shares_is_one_observation() -> None:
    assert len(observations_of([entry(())])) == 1
    assert profiled_blocks(entry(()), Observation("network", (A, B, A), 1.0)) == []


def test_a_held_out_network_is_held_out_with_its_profile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = [
        msgspec.structs.replace(network, process=number % 2 + 1)
        for number, network in enumerate(networks(12, 0))
    ]
    inside = [
        msgspec.structs.replace(
            network, scope="in_network", blocks=network.blocks[:1], ms=0.1 * network.ms
        )
        for network in whole
    ]
    fitted: list[set[int]] = []

    def spy(device: str, observations: list[Observation], **options: object) -> object:
        fitted.append({item.process for item in observations if item.scope == "in_network"})
        return fit_model(device, observations, **options)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(fitting, "fit_model", spy)
    held_out_predictions("phone", [*isolated(), *whole, *inside])
    assert fitted and all(len(processes) < 2 for processes in fitted)


def test_a_network_below_the_profilers_resolution_has_no_shares(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    profiled(monkeypatch, rows(("blocks.0.conv", 0.0), ("blocks.1.layers.expand.conv", 0.0)))
    assert block_shares(Path("a.onnx"), find_profile("host-cpu"), CHAIN) == ()


def test_a_note_tells_if_fewer_networks_than_requested_were_profiled() -> None:
    entries = [entry((0.2, 0.5, 0.3)), entry(()), entry(())]
    assert missing_profiles(entries, 1) is None
    note = missing_profiles(entries, 3)
    assert note is not None and note.startswith("1 of 3 networks are profiled")


def test_a_failing_profiler_runs_before_its_batch_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> tuple[float, ...]:
        raise DeviceError("no profiler here")

    class Unmeasured:
        def measure(self, *_: object, **__: object) -> list[Measurement]:
            raise AssertionError("measured before it was profiled")

    monkeypatch.setattr(bench_module, "block_shares", failing)
    bench = bench_module.Bench(find_profile("host-cpu"), Unmeasured(), tmp_path)  # pyright: ignore[reportArgumentType]
    bench.profiles_left = 1
    space = mobile_space((1, 28, 28), 10)
    job = bench_module.network_job(space.architecture(space.random(Random(0))))
    with pytest.raises(DeviceError, match="no profiler here"):
        bench.measure([job])


def test_a_profile_of_a_gpu_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path))
    file = tmp_path / "board.toml"
    file.write_text(
        'name = "board"\ntitle = "a board"\nkind = "gpu"\nruntime = "onnxruntime"\n'
        'transport = "local"\n[hardware]\nsource = "a test"\n[gpu]\nprovider = "cuda"\n'
    )
    command = ["measure", "--target", str(file), "--profile", "2"]
    result = CliRunner().invoke(latency, command, standalone_mode=False)
    assert isinstance(result.exception, UsageError)
    assert "is a GPU" in str(result.exception)


def test_a_profile_of_another_device_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path))
    command = ["measure", "--target", "simulated-phone", "--profile", "2"]
    result = CliRunner().invoke(latency, command, standalone_mode=False)
    assert isinstance(result.exception, UsageError)
    assert "simulated-phone is simulated" in str(result.exception)
