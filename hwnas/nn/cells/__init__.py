"""Modules of cells: operations, the supernet, its paths and children."""
