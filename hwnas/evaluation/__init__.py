"""Runs model files on images: predictions, and the accuracy on a data set with its report."""
