"""Who may do what and how much. Everything here decides from values that it is given; the time is one of them."""
