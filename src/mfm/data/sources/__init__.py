"""Sources of images that come by a name: built in, or torchvision's."""
