//! The program as its users meet it: what it writes, prints and refuses, and what it leaves behind.

#![allow(clippy::unwrap_used)]

mod bad_input;
mod generate;
mod lora;
mod output;
mod program;
mod reconstruct;
mod reports;
