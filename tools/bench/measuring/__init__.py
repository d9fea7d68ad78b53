"""How well latencies repeat."""
