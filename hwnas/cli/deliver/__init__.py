"""Commands that deliver a model: `hwnas verify` and `hwnas deploy`."""
