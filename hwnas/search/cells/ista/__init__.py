"""ISTA-NAS: search as sparse coding, in two stages and in one."""
