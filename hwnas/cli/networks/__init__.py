"""`hwnas networks`: networks with published weights."""
