"""The worker process that measures model files; it also runs on other hosts, without hwnas."""
