"""What is evolved: a policy in Gymnasium environments, or a function of the user's own."""
