"""The second kind of problem: a function of the user's own, minimized or maximized."""
