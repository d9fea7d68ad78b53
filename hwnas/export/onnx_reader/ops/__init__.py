"""The computation of each ONNX operator, by subject."""
