"""``esb metrics``: what Grafana and Prometheus need to watch a bus."""

from __future__ import annotations

import json
from pathlib import Path

import click

from esb.cli.gateway import workspace_option
from esb.cli.places import read_or_fail


@click.group()
def metrics() -> None:
    """A Grafana dashboard and alert rules for Prometheus, made from the workspace."""


@metrics.command("dashboard")
@workspace_option
def metrics_dashboard(root: Path) -> None:
    """The dashboard as JSON on stdout, to be imported or kept in Git; its uid stays the same."""
    from esb.observe.grafana import dashboard

    click.echo(json.dumps(dashboard(read_or_fail(root, "metrics dashboard -C")), indent=2))


@metrics.command("rules")
@workspace_option
def metrics_rules(root: Path) -> None:
    """Alert rules as YAML on stdout, for `rule_files` of Prometheus."""
    import yaml

    from esb.observe.grafana import rules

    click.echo(
        yaml.safe_dump(rules(read_or_fail(root, "metrics rules -C")), sort_keys=False, allow_unicode=True, width=120),
        nl=False,
    )
