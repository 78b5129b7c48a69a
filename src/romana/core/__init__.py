"""Pure decisions: same inputs, same answer; no clock, no input, no output."""
