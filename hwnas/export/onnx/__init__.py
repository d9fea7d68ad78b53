"""The ONNX emitter and the int8 quantisation of ONNX files."""
