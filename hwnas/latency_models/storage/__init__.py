"""Where latency models and measurements are stored, and which model a name means."""
