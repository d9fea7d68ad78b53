"""`hwnas latency`: latency models of devices; `measure` makes one, the other commands use it."""

from __future__ import annotations

from hwnas.cli.framework.command import Group
from hwnas.cli.latency.check import check
from hwnas.cli.latency.fit import fit
from hwnas.cli.latency.measure import measure
from hwnas.cli.latency.predict import predict
from hwnas.cli.latency.tables import adapt, import_

latency = Group(
    "latency",
    help="Latency models of devices.",
    commands=[measure, fit, check, predict, import_, adapt],
)
