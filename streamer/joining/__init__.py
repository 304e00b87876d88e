"""Taking part in somebody else's room: a participant with a swapped face and live sound in step."""
