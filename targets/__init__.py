"""Device classes: one module (runtime adapter) and one TOML (devices, limits, default plan) each."""
