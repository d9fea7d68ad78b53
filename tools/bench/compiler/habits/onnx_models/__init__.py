"""ONNX models as other exporters write them."""
