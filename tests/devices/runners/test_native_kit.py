"""The native runner of both runtimes, built and run on this machine's shell as on a phone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from hwnas.architecture.runtimes import RUNTIMES, RuntimeName
from hwnas.devices.op_profile.remote import native_rows, remote_operator_times
from hwnas.devices.profile import DeviceProfile, Hardware, MeasureSpec, Remote
from hwnas.devices.runner import Subject
from hwnas.devices.runners.native_kit import KITS, build_kit, kit_folder
from hwnas.devices.runners.programs import push_kit
from hwnas.devices.runners.remote import RemoteRunner
from hwnas.devices.transports.connections import LocalConnection
from hwnas.devices.transports.transport import CommandResult, Transport
from hwnas.devices.worker.model import input_shapes
from hwnas.devices.worker.runtimes.open import open_model
from hwnas.errors import DeviceError, InvalidFile, UsageError
from hwnas.measurement.measurement import compare

NetWriter = Callable[..., Path]
WITH_KITS: tuple[RuntimeName, ...] = ("litert", "onnxruntime")
QUICK = MeasureSpec(
    warmup_runs=1, warmup_s=0.0, processes=2, runs=5, min_rounds=6, max_rounds=6, ci=0.0
)


@pytest.fixture(scope="module", autouse=True)
def kits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HWNAS_HOME", str(home))
        for runtime in WITH_KITS:
            build_kit("x86_64", runtime=runtime)
        yield home


@pytest.fixture(params=WITH_KITS)
def runner(request: pytest.FixtureRequest, tmp_path: Path) -> RemoteRunner:
    return shell_runner(request.param, tmp_path)


def shell_runner(runtime: RuntimeName, folder: Path) -> RemoteRunner:
    profile = DeviceProfile(
        name="shell",
        title="this machine, as if a phone",
        kind="android",
        runtime=runtime,
        transport="adb",
        hardware=Hardware(source="test"),
        measure=QUICK,
        remote=Remote(),
    )
    transport = Transport("shell", LocalConnection(), str(folder / "there"))
    return RemoteRunner(profile, transport=transport)


def write(runner: RemoteRunner, write_net: NetWriter, path: Path, **shape: int) -> Path:
    return write_net(path.with_suffix(RUNTIMES[runner.profile.runtime].suffix), **shape)


def test_it_measures_as_the_worker_does(
    runner: RemoteRunner, tmp_path: Path, write_net: NetWriter
) -> None:
    small = write(runner, write_net, tmp_path / "small")
    large = write(runner, write_net, tmp_path / "large", channels=48, layers=6)
    a, b = runner.measure([Subject("small", small), Subject("large", large)])
    assert compare(b, a).low > 1.5
    assert (len(a.rounds) + a.disturbed_rounds, a.kind) == (6, "measured")
    assert all(len(round.samples_ms) == 5 for round in a.rounds)
    assert a.environment.runtime_version.endswith("native") and a.load_ms


def test_it_knows_what_other_programs_took_from_each_call(
    runner: RemoteRunner, write_net: NetWriter, tmp_path: Path
) -> None:
    suffix = RUNTIMES[runner.profile.runtime].suffix
    [measured] = runner.measure([Subject("net", write_net(tmp_path / f"net{suffix}"))])
    assert {round.number for round in measured.rounds} <= {1, 2, 3}
    for round in measured.rounds:
        for wall_ms, usage in (
            (round.samples_ms, round.usage),
            (round.reference_ms, round.reference_usage),
        ):
            assert usage is not None
            assert len(usage.cpu_ms) == len(usage.switches) == len(wall_ms) == 5
            assert all(cpu_ms > 0 for cpu_ms in usage.cpu_ms)
            pairs = zip(wall_ms, usage.cpu_ms, usage.lost_ms, strict=True)
            assert all(lost_ms == pytest.approx(max(0, w - c), abs=1e-4) for w, c, lost_ms in pairs)


def test_it_computes_what_the_python_runtime_computes(
    runner: RemoteRunner, tmp_path: Path, write_net: NetWriter
) -> None:
    file = write(runner, write_net, tmp_path / "net")
    here = open_model(str(file), runner.profile.runtime)
    images = (
        np.random.default_rng(0).normal(size=input_shapes("", here.inputs)[0]).astype(np.float32)
    )
    (tmp_path / "in.bin").write_bytes(images.tobytes())
    program, libraries = push_kit(
        runner.host.transport, runner.host.remote, runner.host.facts(), runner.profile.runtime
    )
    output = tmp_path / "out.bin"
    words = [
        "env",
        f"LD_LIBRARY_PATH={libraries}",
        program,
        f"--graph={file}",
        f"--input_file={tmp_path / 'in.bin'}",
        f"--output_filepath={output}",
    ]
    result = runner.host.transport.run(words)
    assert result.status == 0 and not result.out.strip(), result
    here.set_inputs([images])
    here.run()
    got = np.frombuffer(output.read_bytes(), np.float32)
    np.testing.assert_allclose(got, here.outputs()[0].ravel(), rtol=1e-5, atol=1e-6)


def test_it_reports_the_time_of_each_operator(
    runner: RemoteRunner, tmp_path: Path, write_net: NetWriter
) -> None:
    file = write(runner, write_net, tmp_path / "net", channels=16, layers=3, size=32)
    rows = remote_operator_times(runner.host, Subject("net", file))
    convolutions = [row for row in rows if "Conv" in row.kind]
    assert len(convolutions) == 3
    assert sum(row.share for row in rows) == pytest.approx(1)
    assert {row.provider for row in rows} <= {"CPUExecutionProvider", "XNNPACK", "LiteRT"}
    assert sum(row.share for row in convolutions) > 0.3


def test_it_reports_all_of_thousands_of_operators(tmp_path: Path) -> None:
    """More than 4096, and a name that is longer than 255 characters."""
    onnx = pytest.importorskip("onnx")
    count, long_name = 4200, "block/" * 60
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    names = [f"{long_name if place == 4100 else 'n'}{place}" for place in range(count)]
    nodes = [  # two operators that no optimiser fuses or takes away
        helper.make_node(("Sin", "Neg")[place % 2], [f"x{place}"], [f"x{place + 1}"], name=name)
        for place, name in enumerate(names)
    ]
    ends = [helper.make_tensor_value_info(f"x{place}", kind, [1, 4]) for place in (0, count)]
    graph = helper.make_graph(nodes, "long", ends[:1], ends[1:])
    opset = [helper.make_opsetid("", 17)]
    file = tmp_path / "long.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), file)
    rows = remote_operator_times(shell_runner("onnxruntime", tmp_path).host, Subject("long", file))
    assert [row.name for row in rows] == names
    assert [row.kind for row in rows] == ["Sin", "Neg"] * (count // 2)


def test_an_invalid_model_is_named_by_its_local_path(runner: RemoteRunner, tmp_path: Path) -> None:
    broken = tmp_path / f"broken{RUNTIMES[runner.profile.runtime].suffix}"
    broken.write_bytes(b"this is no model")
    with pytest.raises(InvalidFile, match=r"broken\.\w+: "):
        runner.measure([Subject("broken", broken)])
    with pytest.raises(InvalidFile, match=r"broken\.\w+: "):
        remote_operator_times(runner.host, Subject("broken", broken))


def test_a_missing_kit_gives_the_command_that_builds_it(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"hwnas kit --abi x86_64 --runtime onnxruntime"):
        kit_folder("x86_64", {"x86_64": str(tmp_path)}, "onnxruntime")


def test_a_wheel_of_another_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "some-1.0.whl").write_bytes(b"no zip")
    for runtime in KITS:
        with pytest.raises(UsageError, match=rf"not a wheel of {KITS[runtime].package}"):
            build_kit("x86_64", tmp_path / "some-1.0.whl", runtime=runtime)


@pytest.mark.parametrize(
    ("out", "status"),
    [(b"", 139), (b"nonsense\n", 0), (b'{"operators":[]}\n', 0), (b"[" * 9000, 0), (b"", 0)],
)
def test_a_profiler_that_writes_nonsense_is_a_device_error(out: bytes, status: int) -> None:
    with pytest.raises(DeviceError, match="phone: "):
        native_rows(CommandResult(status, out, b""), Path("a.tflite"), "phone")
