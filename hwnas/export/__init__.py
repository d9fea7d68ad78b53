"""The compiler: a PyTorch module as a verified ONNX or TFLite file."""

from hwnas.callable_package import make_callable

make_callable(__name__)  # `hwnas.export(...)`
