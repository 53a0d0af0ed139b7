"""Encoders: one module per network, each a torch module with its settings (section 2)."""
