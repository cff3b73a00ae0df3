"""AMQP at work; the options stand in :mod:`esb.endpoints.amqp`."""
