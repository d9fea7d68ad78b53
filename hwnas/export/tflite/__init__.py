"""The TFLite emitter and the int8 quantisation of TFLite files."""
