"""The pose service: one `PoseService` behind its protocols. Imports `model`; knows nothing of `training`."""
