"""Many runs: sweeps, what they would cost, and what is made of them."""
