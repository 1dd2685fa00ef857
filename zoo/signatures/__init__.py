"""What the models of a task serve: one task a public file of this folder."""
