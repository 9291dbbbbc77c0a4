"""Choose a run that suits the images, the machine and the time: pure functions, without torch."""
