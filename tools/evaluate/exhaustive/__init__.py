"""Every network of a small space, trained and measured; searches and peers against the truth."""
