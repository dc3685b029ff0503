"""What an operator looks at and holds on to: one file each."""
