"""Images in files, as people have them."""
