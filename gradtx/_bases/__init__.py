"""Changes of basis around any transformation."""
