"""Attacks from outside on a running bus; `attacks.py` lists them all."""
