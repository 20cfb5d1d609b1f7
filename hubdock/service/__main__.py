"""``python -m hubdock.service``: what a hub starts as its service."""

from hubdock.service.app import main

main()
