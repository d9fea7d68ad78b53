"""What is settled before a search: device, data, space, latency model, budget, schedule."""
