//! Training against torch, and as its users meet it: runs that fall, stop and go on.

#[path = "../common/mod.rs"]
mod common;
