"""Commands on a model that is delivered: predict, evaluate, verify, deploy."""
