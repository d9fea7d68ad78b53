"""Sources of photos: folders, lists, tar shards, Hugging Face data sets."""
