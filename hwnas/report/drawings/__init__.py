"""Drawings of networks and cells as inline SVG."""
