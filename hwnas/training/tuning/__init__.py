"""Fine-tuning: learning rates by depth, an initial classifier, image sizes, the best epoch."""
