"""One kind of problem: a policy in Gymnasium environments."""
