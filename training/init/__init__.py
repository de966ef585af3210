"""Where networks start: what is known before they learn."""
