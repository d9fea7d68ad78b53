"""The compiler: a PyTorch module as a verified ONNX or TFLite file."""
