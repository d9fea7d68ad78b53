"""The steps of `hwnas.specialize`, each of which can be cut off and resumed."""
