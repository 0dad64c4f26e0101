"""How settings are written, read and checked, and the policy that they make."""
