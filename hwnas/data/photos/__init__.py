"""Photos: encoded images of any size, where they come from and where their pixels are held."""
