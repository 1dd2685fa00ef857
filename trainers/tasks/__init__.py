"""Tasks: one a public file of this folder, each with one public class."""
