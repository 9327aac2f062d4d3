"""Loading of images: order, crops, decoding, batches."""
