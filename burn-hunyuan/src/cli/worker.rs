//! `burn-hunyuan worker`.

use std::net::TcpListener;

use burn::server::{RemoteServer, WebSocketTransport};
use clap::Args;

use super::print;
use crate::{
    device,
    error::{Error, Result},
};

#[derive(Debug, Args)]
pub(super) struct Worker {
    /// The address to listen on. Anyone who reaches it can use the device, and nothing is encrypted:
    /// expose it only to a network that you trust
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3000")]
    listen: String,
    /// The device to serve; see `burn-hunyuan devices`
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,
}

impl Worker {
    pub fn run(self) -> Result<()> {
        let device = device::open(&self.device)?;
        let refused = |e: &dyn std::fmt::Display| {
            Error::Unusable(format!("cannot listen on {}: {e}", self.listen))
        };
        let listener = TcpListener::bind(&self.listen).map_err(|e| refused(&e))?;
        let address = listener.local_addr().map_err(|e| refused(&e))?;
        print(format_args!(
            "--device remote:ws://{address} is {} of this machine",
            device::description(&device)
        ))?;
        let server = RemoteServer::new([device]);
        let served = server.serve(WebSocketTransport::from_listener(listener));
        served.map_err(|e| refused(&e))
    }
}
