from esb.registry import step

raise RuntimeError('boom')
