"""The embedded server, by gRPC and REST."""
