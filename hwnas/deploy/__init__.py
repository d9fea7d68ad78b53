"""Handing a model over: a bundle of files, and its trial on the device."""
