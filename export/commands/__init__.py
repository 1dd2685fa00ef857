"""The commands of the program `ponderzoo`."""
