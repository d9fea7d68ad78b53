"""Parts of `tools/evaluate_specialization.py`."""
