"""Blocks of image, video and point networks."""
