"""Results as pages: one HTML file that opens offline, runs no script and asks for nothing from anywhere."""
