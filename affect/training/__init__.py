"""Training: the plan, the exact step, the loop and what they write."""
