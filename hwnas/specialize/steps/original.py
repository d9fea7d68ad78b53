"""The tuned network from which the others are cut, as a file that can be used before the cuts."""

from __future__ import annotations

from hwnas.architecture.runtimes import RUNTIMES
from hwnas.nn.build import build
from hwnas.search.elastic.state import TunedFiles
from hwnas.search.plan import SearchFiles
from hwnas.specialize.context import RunContext
from hwnas.specialize.steps.quantize import compile_network
from hwnas.training.checkpoint import load_weights


def export_original(run: RunContext) -> None:
    """Write ``original/model.FORMAT`` for the target, in float32, once; nothing is written if
    networks are trained from scratch."""
    if run.weights is None:
        return
    format = RUNTIMES[run.target.profile.runtime].format
    path = run.folder.path / "original" / f"model.{format}"
    if path.exists():
        return
    tuned = TunedFiles.of(SearchFiles.of_run(run.folder.path))
    architecture = tuned.read().architecture
    network = build(architecture)
    load_weights(network, tuned.weights)
    with run.folder.stage("export the original"):
        artifact = compile_network(run, network.eval(), architecture, path)
    assert artifact.parity is not None
    run.console.say(
        f"{path}: the whole network at {architecture.input_shape[1]} px, "
        f"{run.dataset.score_name} "
        f"{artifact.parity.accuracy_artifact:.1%} on {artifact.parity.images} test images"
    )
