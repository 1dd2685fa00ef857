"""Ways of learning."""
