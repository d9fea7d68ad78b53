"""What each ONNX operator computes, by subject."""
