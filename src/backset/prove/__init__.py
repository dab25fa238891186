"""What only a scratch database can prove."""
