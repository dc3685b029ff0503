"""How published items reach a server's queue: the interface (`base`) and one file per broker."""
