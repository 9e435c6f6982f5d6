//! Training against torch, and as its users meet it: runs that fall, stop and go on.

#![allow(clippy::unwrap_used)]

mod attention;
#[path = "../common/mod.rs"]
mod common;
mod devices;
mod dit;
mod dit_run;
mod lora;
mod lpips;
mod optimizer;
mod run;
mod shards;
mod toy;
mod vae;
mod vae_run;
