"""What the operating system offers on a descriptor, named and typed. Nothing here waits, switches tasks or knows a loop."""
