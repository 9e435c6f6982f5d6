//! Tiers: the rules that sort clips, each stricter than the one before.
