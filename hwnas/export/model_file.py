"""Writes a model file so that only one that opens and passes its verification appears."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hwnas.architecture.artifact import Artifact, Parity
from hwnas.devices.worker.runtimes.open import open_model
from hwnas.errors import ExportError, WriteError
from hwnas.export.recipe import Recipe
from hwnas.files import file_sha256


def write_artifact(
    path: Path,
    recipe: Recipe,
    write: Callable[[Path], None],
    verify: Callable[[Path], Parity | None],
) -> Artifact:
    """Call ``write`` and ``verify`` on a temporary file beside ``path``, then rename it.

    In between the file is opened in the runtime of ``recipe``. If any of them raises, no file
    appears; error messages name ``path``.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        version = _runtime_version(temporary, recipe)
        parity = verify(temporary)
        digest, size_bytes = file_sha256(temporary), temporary.stat().st_size
        os.replace(temporary, path)
    except ExportError as error:
        error.args = (str(error).replace(str(temporary), str(path)), *error.args[1:])
        raise
    except OSError as error:
        raise WriteError(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return Artifact(
        path=str(path),
        format=recipe.format,
        precision=recipe.precision,
        runtime=recipe.runtime,
        runtime_version=version,
        sha256=digest,
        size_bytes=size_bytes,
        parity=parity,
    )


def _runtime_version(path: Path, recipe: Recipe) -> str:
    try:
        return open_model(str(path), recipe.runtime, 1).version
    except (RuntimeError, ValueError) as error:
        reason = getattr(error, "why", error)
        raise ExportError(f"{path}: {recipe.runtime} cannot open it: {reason}") from error
