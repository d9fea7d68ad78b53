"""ProxylessNAS: path-level gradients and REINFORCE on a supernet."""
