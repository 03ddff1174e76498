"""The commands of ``esd``, one small file each; heavy imports stay inside of the functions."""
