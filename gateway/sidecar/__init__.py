"""`inferway sidecar`: a drop-in for llm-d's routing sidecar, beside a decode engine."""
