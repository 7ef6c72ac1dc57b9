"""`make demo` and `make quickstart`: the product on real parts, shown step by step."""
