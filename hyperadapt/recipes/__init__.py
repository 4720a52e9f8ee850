"""Named methods beyond one component with its defaults: one YAML file each."""
