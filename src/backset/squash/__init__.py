"""Many revisions written anew as one that replaces them, and databases that follow it."""
