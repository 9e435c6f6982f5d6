//! Whether a model is whole and of one piece, told from the headers.

use burn::tensor::Device;

use super::{Component, Error, Mismatch, Model, check, convert::check_dtypes};

impl Model {
    /// Compares a component with its configuration; no weight is read.
    ///
    /// `device` is where the module would be; nothing is allocated there.
    ///
    /// # Errors
    /// A component that is absent, or whose sizes cannot be told, or of a dtype that cannot be
    /// loaded.
    pub fn check(&self, component: Component, device: &Device) -> Result<Mismatch, Error> {
        check_dtypes(&self.source(component)?.recognised.weights)?;
        Ok(match component {
            Component::Transformer => {
                let part = self.transformer()?;
                check(&part.config.init(device), &part.weights)
            }
            Component::Vae => {
                let part = self.vae()?;
                check(&part.config.init(device), &part.weights)
            }
            Component::TextEncoder => {
                let part = self.text_encoder()?;
                check(&part.config.init(device), &part.weights)
            }
            Component::TextEncoder2 => {
                let part = self.text_encoder_2()?;
                check(&part.config.init(device), &part.weights)
            }
        })
    }

    /// Makes sure that all four components are whole and fit each other, without reading a weight.
    ///
    /// # Errors
    /// Those of [`check`](Self::check), what it finds, and components of different models.
    pub fn check_whole(&self, device: &Device) -> Result<(), Error> {
        let origin = |component| -> Result<_, Error> {
            let source = self.source(component)?;
            Ok(source.recognised.weights.origin().to_path_buf())
        };
        for component in Component::ALL {
            let mismatch = self.check(component, device)?;
            if !mismatch.is_empty() {
                let origin = origin(component)?;
                return Err(Error::Mismatch { origin, mismatch });
            }
        }
        let transformer = self.transformer()?.config;
        let takes_and_gives = [
            (
                Component::Vae,
                transformer.in_channels,
                self.vae()?.config.latent_channels,
            ),
            (
                Component::TextEncoder,
                transformer.text_dim,
                self.text_encoder()?.config.hidden,
            ),
            (
                Component::TextEncoder2,
                transformer.pooled_dim,
                self.text_encoder_2()?.config.hidden,
            ),
        ];
        for (component, takes, gives) in takes_and_gives {
            if takes != gives {
                let what = format!(
                    "this {component} has {gives} channels, but the transformer of {} takes \
                     {takes}; use those of one model",
                    origin(Component::Transformer)?.display()
                );
                let path = origin(component)?;
                return Err(Error::Unsupported { path, what });
            }
        }
        Ok(())
    }
}
