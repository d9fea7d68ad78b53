"""What fine-tuning adds to a training: rates by depth, a first classifier, image sizes."""
