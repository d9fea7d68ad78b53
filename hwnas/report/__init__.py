"""The report of a run: one JSON document, and its Markdown and HTML renderings."""
