"""Generated from proto/pose.proto by `make proto`; not edited by hand."""
