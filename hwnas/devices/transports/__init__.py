"""Transports: commands and files to a device by a shell, adb or ssh."""
