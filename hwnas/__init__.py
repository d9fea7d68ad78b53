"""hwnas: search, train, compile and measure a CNN for one device and one latency budget."""

__version__ = "0.1.0"
