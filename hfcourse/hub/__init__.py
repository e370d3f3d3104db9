"""Model cards and export."""
