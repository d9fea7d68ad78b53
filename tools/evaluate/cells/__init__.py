"""DARTS, ISTA-NAS, ProxylessNAS and random search on cells with equal core-minutes."""
