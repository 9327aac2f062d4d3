"""Folders of images as their users made them: names, classes, labels, groups."""
