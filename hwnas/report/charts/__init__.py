"""The charts of the report as inline SVG and HTML, without scripts."""
