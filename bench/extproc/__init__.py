"""What being asked by Envoy costs: our external processor and grpc.aio behind the real Envoy."""
