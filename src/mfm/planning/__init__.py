"""Planning: an experiment drafted for a folder of pictures and this machine."""
