"""Weights."""


def net(body):
    return body["gross"] - body["tare"]


def gross(body, tare):
    return body["net"] + tare
