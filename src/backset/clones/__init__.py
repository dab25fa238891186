"""Databases that are kept as a build left them, and what such a build depended on."""
