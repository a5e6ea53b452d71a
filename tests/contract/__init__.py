"""What the package promises about itself as a whole: its imports."""
