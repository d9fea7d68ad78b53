"""Int8: post-training quantisation, quantisation-aware fine-tuning, sensitive layers."""
