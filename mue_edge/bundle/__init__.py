"""The bundle: the folder that a device gets, read strictly."""
