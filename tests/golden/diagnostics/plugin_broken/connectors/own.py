
raise RuntimeError("boom")
