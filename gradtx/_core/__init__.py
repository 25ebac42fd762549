"""What a transformation is, and how one step of it is carried out."""
