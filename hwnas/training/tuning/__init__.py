"""Fine-tuning: rates by depth, an initial classifier, image sizes, the best epoch, averages."""
