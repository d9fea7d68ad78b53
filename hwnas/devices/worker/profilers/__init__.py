"""The worker's operator profilers: ONNX Runtime's and LiteRT's."""
