"""Maps of images: their representations in two dimensions, as a picture or a page."""
