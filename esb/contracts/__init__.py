"""Contracts: JSON Schemas, compiled at load, checked exactly and offline."""

from __future__ import annotations

from esb.contracts.contract import LISTED, JsonContract, read_schema

__all__ = ["LISTED", "JsonContract", "read_schema"]
