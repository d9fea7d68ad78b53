"""How networks are called and wrapped."""
