"""What all commands share: help in groups, types of values, shell completion."""
