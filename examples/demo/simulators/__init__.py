"""Stand-ins for the systems around the bus: small HTTP servers with their own state, which can be told to misbehave.

They exist for the demo and the acceptance tests. Start one with ``python -m examples.demo.simulators erp --port 9101``.
"""
