"""EAS: networks grown from trained networks by a reinforcement-learned controller."""
