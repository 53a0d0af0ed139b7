"""The methods, one module each: its settings, its module, its title."""
