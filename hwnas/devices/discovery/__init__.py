"""Finding devices and what prevents measuring on them."""
