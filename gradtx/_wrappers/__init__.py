"""One transformation around another."""
