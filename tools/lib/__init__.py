"""Services that pix2pix.py and the commands share; they import neither."""
