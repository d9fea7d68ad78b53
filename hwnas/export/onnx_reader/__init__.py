"""Reads ONNX files of any origin as modules, which the compiler takes like all others."""
