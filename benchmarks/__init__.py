"""Times every public kernel against what people write and use instead: see `cpu.py`."""
