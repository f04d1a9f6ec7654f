"""Sockets that look blocking, and what is made of them: streams by address, names, relays. Knows no SOCKS."""
