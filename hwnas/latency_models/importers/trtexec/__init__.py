"""Importer of logs of TensorRT's `trtexec`: observations of whole networks."""
