"""The running bus: intake, lanes, worker, settle, targets, supervisor."""
