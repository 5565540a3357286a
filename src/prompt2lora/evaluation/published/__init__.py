"""The published tasks: commonsense, mathematics and code, measured as the field measures them."""
