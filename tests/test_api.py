"""The front door: public names, their documentation, and what they do."""

from __future__ import annotations

import doctest
import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import hwnas
from hwnas import api
from hwnas.api.run import SpecializeOptions
from hwnas.errors import UnknownName, UsageError
from hwnas.specialize.options import OPTIONS
from hwnas.specialize.setup.python_values import SINGULAR, run_request
from hwnas.specialize.spec import Milliseconds, Share
from tests.support.reporting.sample_run import make_small

FUNCTIONS = [name for name in hwnas.__all__ if inspect.isfunction(getattr(api, name, None))]
PHONE = "simulated-phone"


def test_all_public_functions_are_in_all() -> None:
    public = {name for name, value in vars(api).items() if inspect.isfunction(value)}
    assert public == set(FUNCTIONS)
    assert set(dir(hwnas)) == set(hwnas.__all__)


@pytest.mark.parametrize("name", [name for name in hwnas.__all__ if name != "__version__"])
def test_public_names_resolve_and_are_documented(name: str) -> None:
    value = getattr(api, name, None) or getattr(hwnas, name)
    assert inspect.getdoc(value)
    assert callable(getattr(hwnas, name))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_examples_in_docstrings_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path / "home"))
    make_small(monkeypatch, "trial")  # the effort of the example
    [test] = doctest.DocTestFinder(recurse=False).find(getattr(api, name), name, globs={})
    assert test.examples
    result = doctest.DocTestRunner().run(test)
    assert result.failed == 0


@pytest.mark.parametrize("name", FUNCTIONS)
def test_public_functions_have_few_parameters_and_options_by_keyword(name: str) -> None:
    parameters = inspect.signature(getattr(api, name)).parameters.values()
    assert len(parameters) <= 8
    positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert len(positional) <= 3


def test_importing_hwnas_imports_no_other_package() -> None:
    code = (
        "import sys; before = set(sys.modules); import hwnas; "
        "print({name.partition('.')[0] for name in set(sys.modules) - before "
        "if not name.startswith('_')} - sys.stdlib_module_names)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "{'hwnas'}"


def test_packages_named_like_functions_are_both() -> None:
    from hwnas.devices.profile import find_profile

    names = [profile.name for profile in hwnas.devices()]
    assert PHONE in names and names == sorted(names)
    assert find_profile(PHONE) in hwnas.devices()


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'specialise'"):
        getattr(hwnas, "specialise")  # noqa: B009


def test_a_latency_model_is_loaded_by_name_and_predicts_architectures() -> None:
    model = hwnas.LatencyModel.load("pixel1/table-2018")
    network = hwnas.load_architecture("proxyless_mobile")
    prediction = model.predict(network)
    low_ms, high_ms = prediction.interval_ms()
    assert low_ms[0] < prediction.mean_ms[0] < high_ms[0]
    with pytest.raises(UnknownName, match="did you mean 'pixel1/table-2018'"):
        hwnas.LatencyModel.load("pixel1/table-2081")


def test_budgets_from_python_are_numbers_of_milliseconds_or_text() -> None:
    spec = run_request("host-cpu", [2, "50%", "900us"], "fashion-mnist-6k", {}).spec
    assert spec.budgets == (Milliseconds(2.0), Share(0.5), Milliseconds(0.9))
    for budget in (0, -1.0, "2", True, object()):
        with pytest.raises(UsageError, match="a number of milliseconds"):
            run_request("host-cpu", budget, "fashion-mnist-6k", {})


def test_every_option_of_the_command_is_a_keyword() -> None:
    positional = {"targets", "budgets", "data"}
    singular = {several: single for single, several in SINGULAR.items()}
    fields = {singular.get(option.field, option.field) for option in OPTIONS}
    assert SpecializeOptions.__optional_keys__ == fields - positional


def test_options_take_one_value_or_several() -> None:
    options = {"precision": "int8", "resolution": (24, 28), "width_mult": 0.5, "effort": "trial"}
    spec = run_request(["host-cpu", "pixel1"], None, "fashion-mnist-6k", options).spec
    assert spec.targets == ("host-cpu", "pixel1") and spec.budgets == ()
    assert (spec.precisions, spec.resolutions, spec.width_mults) == (("int8",), (24, 28), (0.5,))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"efort": "trial"}, "did you mean 'effort'"),
        ({"effort": "long"}, "Invalid enum value 'long'"),
        ({"seed": "0"}, r"Expected `int`, got `str` - at `\$.seed`"),
        ({"targets": ("a",)}, "no option named 'targets'"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, object], message: str) -> None:
    with pytest.raises((UsageError, UnknownName), match=message):
        run_request("host-cpu", None, "fashion-mnist-6k", options)


def test_a_profile_object_is_a_target(tmp_path: Path) -> None:
    [phone] = [profile for profile in hwnas.devices() if profile.name == PHONE]
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    hwnas.export(net, (1, 8, 8), tmp_path / "net.tflite")
    result = hwnas.benchmark([tmp_path / "net.tflite"], target=phone)
    assert result.target == PHONE and len(result.results) == 1


def test_calibration_images_make_an_int8_file(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_quantizer")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    images = np.random.default_rng(0).normal(size=(32, 1, 8, 8)).astype(np.float32)
    artifact = hwnas.export(
        net, (1, 8, 8), tmp_path / "net.tflite", images=images, calibration=images
    )
    assert artifact.precision == "int8" and artifact.parity is not None
    assert artifact.parity.images == 32
