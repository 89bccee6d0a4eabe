"""Recipes that ship with Stentor, each a TOML file read by name."""
