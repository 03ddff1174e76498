"""esd as others install it: from a wheel, into environments of their own, with other Pythons and other MPIs."""
