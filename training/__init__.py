"""Training and evaluation of the pose network. Imports `model`; knows nothing of `service`."""
