"""The charts of the report, as plotly figures and inline SVG."""
