"""`hwnas specialize`: device, budget and data in; a measured model file and its report out."""

from hwnas.callable_package import make_callable

make_callable(__name__)  # `hwnas.specialize(...)`
