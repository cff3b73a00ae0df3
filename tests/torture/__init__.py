"""Attacks on the running bus: kills, power cuts, failing system calls, full disks, frozen processes, wrong clocks, twins.

What is shared: :mod:`tests.torture.rig` (a bus, its load and its sinks), :mod:`tests.torture.account` (what may have happened),
:mod:`tests.torture.tier` (how long it may take).
"""
