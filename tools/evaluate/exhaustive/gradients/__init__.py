"""What a search learns of its networks: its gradients, its rewards, and how it ended."""
