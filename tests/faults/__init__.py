"""The fault campaign: what can go wrong under a run is made to go wrong, many times, by number."""
