"""Fine-tuning recipes for small photo sets."""
