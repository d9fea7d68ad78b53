"""`hwnas specialize`: from a device, a budget and data to a measured model file and its report."""

from hwnas.callable_package import make_callable

make_callable(__name__)  # `hwnas.specialize(...)`
