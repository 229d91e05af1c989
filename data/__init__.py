"""Data that ships with lazyvos; read it through ``importlib.resources.files("lazyvos_data")``."""
