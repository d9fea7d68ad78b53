"""Black-box searches of `hwnas.search.blackbox` on problems whose optimum is known."""
