"""Studies: arms that differ in a few settings, trained in turns on the same images, and compared."""
