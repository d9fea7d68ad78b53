"""Measuring on GPUs, with fakes of the provider, the driver's events and NVML."""

from __future__ import annotations

import importlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from hwnas.cli.benchmark import benchmark
from hwnas.devices.discovery.attached import NvidiaGpu
from hwnas.devices.discovery.probe import gpu
from hwnas.devices.profile import DeviceProfile, MeasureSpec, find_profile, read_profile
from hwnas.devices.runner import Subject, reference_file
from hwnas.devices.runners.local import LocalRunner
from hwnas.devices.worker.model import BadModel, input_shapes
from hwnas.devices.worker.runtimes import nvml as nvml_module
from hwnas.devices.worker.runtimes import torch_export
from hwnas.devices.worker.runtimes.cuda import EventClock, TimedRun
from hwnas.devices.worker.runtimes.onnxruntime_gpu import provider_options, providers_of
from hwnas.devices.worker.runtimes.open import open_model
from hwnas.errors import DeviceError, InvalidFile, UsageError
from hwnas.measurement.gpu import GpuState
from hwnas.measurement.measurement import compare
from tests.support.paths import ROOT

NetWriter = Callable[..., Path]
FAKES = ROOT / "tests" / "support" / "machines" / "gpu_fakes"
QUICK = MeasureSpec(
    warmup_runs=1, warmup_s=0.0, processes=1, runs=5, min_rounds=5, max_rounds=5, ci=0.0
)
T4_UUID = "GPU-1b2c0000-0000-0000-0000-000000000000"
T4 = NvidiaGpu(
    0, "Tesla T4", T4_UUID, "535.104.05", 15 * 2**30, 1_590_000_000, "7.5", "0000:3b:00.0"
)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a fake of NVIDIA's driver library."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed, which compiles the fake driver")
    folder = tmp_path_factory.mktemp("driver")
    library = str(folder / "libcuda.so.1")
    subprocess.run(["gcc", "-shared", "-fPIC", str(FAKES / "cuda.c"), "-o", library], check=True)
    return folder


@pytest.fixture
def fake(driver: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def play(behaviour: str) -> None:
        monkeypatch.setenv("PYTHONPATH", str(FAKES))
        monkeypatch.setenv("LD_LIBRARY_PATH", str(driver))
        monkeypatch.setenv("HWNAS_FAKE_GPU", behaviour)

    return play


def profile(**changes: Any) -> DeviceProfile:
    quick = msgspec.structs.replace(find_profile("host-gpu"), measure=QUICK)
    assert quick.gpu is not None
    return msgspec.structs.replace(quick, gpu=msgspec.structs.replace(quick.gpu, **changes))


def free_batch(path: Path) -> Path:
    """Make the batch size of a file dynamic."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(str(path))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_gpu_is_measured_by_its_own_events_with_transfers_apart(
    fake: Callable[[str], None], tmp_path: Path, write_net: NetWriter, provider: str
) -> None:
    fake("ok")
    small = write_net(tmp_path / "small.onnx")
    large = write_net(tmp_path / "large.onnx", channels=48, layers=6)
    runner = LocalRunner(profile(provider=provider))
    a, b = runner.measure([Subject("small", small), Subject("large", large)])
    assert compare(b, a).low > 2
    assert a.on_gpu is not None
    wanted = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}[provider]
    assert (a.on_gpu.provider, a.on_gpu.clock) == (wanted, "CUDA events")
    assert list(a.on_gpu.nodes) == [wanted] and a.on_gpu.nodes[wanted] >= 2
    assert a.on_gpu.wall_ms and a.on_gpu.to_gpu_ms > 0 and a.on_gpu.from_gpu_ms > 0
    assert a.environment.runtime_version.endswith(wanted)
    assert a.environment.hardware.startswith(f"Tesla T4 ({provider}, fp32) in ")
    gpu = a.environment.gpu
    assert gpu is not None and gpu == GpuState(
        name="Tesla T4",
        uuid=T4_UUID,
        driver="535.104.05",
        memory_bytes=15 * 2**30,
        sm_clock_mhz=1200,
        max_sm_clock_mhz=1590,
        memory_clock_mhz=5000,
        temperature_c=71,
        power_w=69.5,
        power_limit_w=70.0,
        slowed_by=("power cap",),
        persistence=False,
        ecc=True,
        mig=None,
        others=1,
    )


def test_another_gpu_or_precision_has_another_fingerprint(fake: Callable[[str], None]) -> None:
    fake("ok")
    prints = {
        LocalRunner(profile(**changes)).probe().fingerprint
        for changes in ({}, {"precision": "tf32"}, {"provider": "tensorrt"})
    }
    assert len(prints) == 3


def test_a_provider_that_falls_back_to_the_cpu_is_refused(
    fake: Callable[[str], None],
) -> None:
    fake("fallback")
    with pytest.raises(DeviceError, match="fell back to CPUExecutionProvider"):
        LocalRunner(profile()).probe()


def test_a_single_node_on_the_cpu_is_refused_by_name(
    fake: Callable[[str], None], tmp_path: Path, write_net: NetWriter
) -> None:
    fake("astray")
    reference = write_net(tmp_path / "reference.onnx")
    with pytest.raises(InvalidFile, match=r"1 of \d nodes do not run on the GPU: \S+ \(CPUExec"):
        LocalRunner(profile(), reference).probe()


def test_an_onnx_runtime_without_gpu_gives_advice() -> None:
    with pytest.raises(DeviceError, match=r"has no CUDAExecutionProvider, it has .*-gpu"):
        LocalRunner(profile()).probe()


def test_a_missing_driver_is_reported() -> None:
    with pytest.raises(RuntimeError, match=r"no NVIDIA driver here \(libcuda.so.1 is missing\)"):
        EventClock(0)


def test_batches_are_measured_if_the_file_accepts_them(
    fake: Callable[[str], None], tmp_path: Path, write_net: NetWriter
) -> None:
    fake("ok")
    file = free_batch(write_net(tmp_path / "free.onnx"))
    single, eight = LocalRunner(profile()).measure(
        [Subject("a", file), Subject("a x8", file, batch=8)]
    )
    assert (single.batch, eight.batch) == (1, 8)
    assert single.on_gpu is not None and eight.on_gpu is not None
    assert (single.on_gpu.batch, eight.on_gpu.batch) == (1, 8)
    assert compare(eight, single).low > 1.5
    fixed = write_net(tmp_path / "fixed.onnx")
    with pytest.raises(InvalidFile, match=r"has batch size 1, not 8; .*--dynamic-batch"):
        LocalRunner(profile()).measure([Subject("b", fixed, batch=8)])


def test_the_cpu_and_the_simulated_phone_take_batches_too(
    tmp_path: Path, write_net: NetWriter
) -> None:
    free, fixed = free_batch(write_net(tmp_path / "a.onnx")), write_net(tmp_path / "b.tflite")
    assert input_shapes("", open_model(str(free), "onnxruntime").inputs, 8) == [(8, 3, 16, 16)]
    with pytest.raises(BadModel, match="has batch size 1, not 4"):
        input_shapes(str(fixed), open_model(str(fixed), "litert").inputs, 4)


def test_the_command_reports_throughput_transfers_and_throttling(
    fake: Callable[[str], None], tmp_path: Path, write_net: NetWriter
) -> None:
    fake("ok")
    file = free_batch(write_net(tmp_path / "a.onnx"))
    toml = (ROOT / "devices" / "host-gpu.toml").read_text()
    (tmp_path / "host-gpu.toml").write_text(
        f"{toml}\nprocesses = 1\nwarmup_s = 0.0\nmin_rounds = 5\nmax_rounds = 5\n"
    )
    result = CliRunner().invoke(
        benchmark, [str(file), "--target", str(tmp_path / "host-gpu.toml"), "--batch", "1,8,32"]
    )
    text = " ".join(result.output.split())
    error = result.exception
    assert result.exit_code in (0, 6) or "95 % interval" in str(error), error
    for words in (
        "Tesla T4 (cuda, fp32)",
        "1200 of 1590 MHz",
        "70 of 70 W",
        "71 °C",
        "a.onnx x32",
        "inputs / s",
        "throttled by: power cap",
        "1 other process(es)",
        "without copies",
    ):
        assert words in text, words


@pytest.mark.parametrize("given", ["0", "1,x", "", "8,-1"])
def test_a_batch_that_is_not_a_number_is_refused(given: str) -> None:
    result = CliRunner().invoke(benchmark, ["a.onnx", "--batch", given])
    assert result.exit_code == 2 and "1,8,32,64" in result.output


def test_tensorrt_caches_engines_and_falls_back_to_cuda(tmp_path: Path) -> None:
    gpu = {"provider": "tensorrt", "number": 1, "precision": "fp16", "engines": str(tmp_path / "e")}
    (first, tensorrt), (second, cuda) = provider_options(gpu, stream=77)
    assert (first, second) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
    assert (tensorrt["trt_fp16_enable"], tensorrt["trt_engine_cache_enable"]) == ("True", "True")
    assert (tmp_path / "e").is_dir()
    assert {options["device_id"] for options in (tensorrt, cuda)} == {"1"}
    assert {options["user_compute_stream"] for options in (tensorrt, cuda)} == {"77"}
    assert cuda["use_tf32"] == "0"


def test_a_profile_of_a_run_names_each_nodes_provider() -> None:
    events = [
        {"cat": "Node", "name": "c1_kernel_time", "args": {"provider": "CUDAExecutionProvider"}},
        {"cat": "Node", "name": "c1_fence_before", "args": {}},
        {"cat": "Session", "name": "model_run"},
        {"cat": "Node", "name": "r_kernel_time"},
    ]
    assert providers_of(events) == {"c1": "CUDAExecutionProvider", "r": "?"}


def test_a_run_is_timed_by_gpu_events_and_by_the_machine() -> None:
    class Clock:
        def elapsed_ms(self, run: Callable[[], None]) -> float:
            run()
            return 3.0

    runs: list[int] = []
    timed = TimedRun(lambda: runs.append(1), Clock())
    assert timed.wall_ms is None
    assert timed.timed_ms(4) == [3.0] * 4 and len(runs) == 4
    assert timed.wall_ms is not None and timed.wall_ms < 3.0


def test_all_names_of_nvml_are_in_the_real_package() -> None:
    real, fake = pytest.importorskip("pynvml"), (FAKES / "pynvml.py").read_text()
    names = {word.split("(")[0] for word in fake.split() if word.startswith("nvml") and "(" in word}
    assert len(names) > 12 and all(hasattr(real, name) for name in names)


def test_a_driver_that_reports_nothing_leaves_all_fields_empty() -> None:
    nvml = type(
        "Silent", (), {f"NVML_{n}": 0 for n in ("CLOCK_SM", "CLOCK_MEM", "TEMPERATURE_GPU")}
    )
    state = msgspec.convert(nvml_module.state(nvml, nvml_module.Handles(None, None)), GpuState)
    assert state == GpuState(name="NVIDIA GPU")
    assert nvml_module.watch(0)() is None, "no driver here"


def test_pytorch_computes_what_onnx_runtime_computes() -> None:
    images = np.random.default_rng(0).standard_normal((1, 1, 28, 28), np.float32)
    outputs: list[np.ndarray] = []
    for runtime in ("onnxruntime", "torch"):
        model = open_model(str(reference_file(runtime)), runtime)  # type: ignore[arg-type]
        assert model.inputs[0].shape == images.shape
        model.set_inputs([images])
        model.run()
        outputs.append(model.outputs()[0])
    assert np.abs(outputs[0] - outputs[1]).max() < 1e-4 * np.abs(outputs[0]).max()
    assert torch.is_grad_enabled()  # the process may train afterwards


def test_a_file_that_is_not_a_program_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.pt2").write_bytes(b"this is no program")
    with pytest.raises(BadModel, match=r"a\.pt2: "):
        open_model(str(tmp_path / "a.pt2"), "torch")


def test_pytorch_without_a_gpu_is_refused() -> None:
    gpu = {"provider": "torch", "number": 0, "precision": "fp32"}
    with pytest.raises(RuntimeError, match=r"sees no GPU 0 here \(0 in all\)"):
        open_model(str(reference_file("torch")), "torch", 1, gpu)


def test_a_pytorch_program_with_tensors_on_the_cpu_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`torch.cuda` reports a GPU, but no tensor is moved to it."""
    torch = importlib.import_module("torch")

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None: ...

        def synchronize(self) -> None: ...

        def elapsed_time(self, end: object) -> float:
            return 2.0

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: None)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch_export, "DEVICE", "cpu")
    gpu = {"provider": "torch", "number": 0, "precision": "fp32"}
    model: Any = open_model(str(reference_file("torch")), "torch", 1, gpu)
    model.set_inputs([np.zeros(model.inputs[0].shape, np.float32)])
    assert model.run.timed_ms(3) == [2.0] * 3
    execution = model.gpu_execution()
    assert (execution["batch"], execution["precision"], execution["clock"]) == (
        1,
        "fp32",
        "CUDA events",
    )
    with pytest.raises(RuntimeError, match="tensors are not on the GPU"):
        model.check()


def test_pytorch_is_not_a_target_for_a_search(tmp_path: Path) -> None:
    from hwnas.specialize.setup.target import find_target

    text = (ROOT / "devices" / "host-gpu.toml").read_text()
    text = text.replace('"onnxruntime"', '"torch"').replace(
        'provider = "cuda"', 'provider = "torch"'
    )
    (tmp_path / "host-gpu.toml").write_text(text)
    with pytest.raises(UsageError, match=r"networks are compiled to \.onnx and \.tflite"):
        find_target(str(tmp_path / "host-gpu.toml"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[gpu]", "[gpu_]", r"unknown field `gpu_`"),
        ('provider = "cuda"', 'provider = "rocm"', r"Invalid enum value 'rocm'"),
        ('provider = "cuda"', 'provider = "torch"', r"'torch' needs runtime = 'torch'"),
        ('provider = "cuda"', 'precision = "fp16"', r"expected fp32 or tf32"),
        ('kind      = "gpu"', 'kind = "cpu"', r"\[gpu\] table only where kind = .gpu."),
        ('[gpu]\nprovider = "cuda"', "", r"Expected a \[gpu\] table where kind"),
    ],
)
def test_a_wrong_gpu_table_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = (ROOT / "devices" / "host-gpu.toml").read_text()
    assert old in text
    (tmp_path / "host-gpu.toml").write_text(text.replace(old, new))
    with pytest.raises(InvalidFile, match=message):
        read_profile(tmp_path / "host-gpu.toml")


def test_a_probed_gpu_gives_a_valid_profile(tmp_path: Path) -> None:
    from hwnas.devices.discovery.probe import probed_profile, to_toml

    (tmp_path / "my-t4.toml").write_text(to_toml(gpu("my-t4", T4)))
    added = read_profile(tmp_path / "my-t4.toml")
    assert (added.kind, added.hardware.clock_hz) == ("gpu", 1_590_000_000)
    with pytest.raises(DeviceError, match=r"no GPU 3; nvidia-smi lists: none"):
        probed_profile("x", "gpu:3")
