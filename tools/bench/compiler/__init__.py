"""Converting published networks: coverage, speed and int8, beside other converters."""
