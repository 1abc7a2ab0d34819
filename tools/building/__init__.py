"""What setup.py needs to know about the machine on which it builds. Nothing here is installed, or imports torch."""
