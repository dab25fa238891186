"""The application whose database backset rebuilds."""
