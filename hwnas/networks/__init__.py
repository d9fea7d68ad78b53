"""Networks by name, file or factory, with their weights and the images to verify them on."""
