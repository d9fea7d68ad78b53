"""The latency model on published measurements, beside plain methods."""
