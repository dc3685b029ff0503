"""What filters remember about clients: the interface (`base`) and the bundled storages."""
