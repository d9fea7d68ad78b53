"""The worker process that measures model files; it also runs on computers without hwnas."""
