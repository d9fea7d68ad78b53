"""Images of a training: their storage, augmentation and batches."""
