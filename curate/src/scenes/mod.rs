//! Shots: where one camera take ends and the next begins.
