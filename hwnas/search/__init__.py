"""Search strategies over spaces. Latency enters as a table of floats: no device, no predictor."""
