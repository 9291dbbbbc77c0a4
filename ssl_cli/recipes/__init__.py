"""The recipes: the settings of the papers, as data. One file a method and family of data sets."""
