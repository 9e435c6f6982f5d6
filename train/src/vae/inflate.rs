//! From images to clips.

use burn::tensor::s;
use burn_hunyuan_vae::Vae;

use crate::parameters::{parameters, with_parameters};

/// A VAE that was trained on images, for clips: to every frame it does what it did to an image.
///
/// An image is padded in time with itself, so a convolution trained on images has learned only the
/// sum of its temporal taps, and has spread it over all of them alike. On a clip that is a delay of
/// a frame in every convolution, dozens of frames in all, out of which training hardly finds. Here
/// the last tap, that of the present frame, gets the sum and the others zero ("inflation" from 2D
/// to causal 3D; arXiv 2310.05737). What the model does to images stays the same.
pub fn inflate(vae: Vae) -> Vae {
    let mut weights = parameters(&vae);
    for parameter in weights.values_mut() {
        if let [out, input, taps, height, width] = parameter.shape[..] {
            let kernel = parameter.values.clone();
            let kernel = kernel.reshape([out * input, taps, height * width]);
            let present = kernel.clone().sum_dim(1);
            let inflated = kernel
                .zeros_like()
                .slice_assign(s![.., taps - 1.., ..], present);
            *parameter = parameter.with_values(inflated.flatten(0, 2));
        }
    }
    with_parameters(vae, &weights)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{DType, Device, Distribution, Tensor};
    use burn_hunyuan_vae::VaeConfig;

    #[test]
    fn images_stay_as_they_were_and_frames_become_images() {
        let device = Device::flex();
        let vae = VaeConfig::new()
            .with_latent_channels(4)
            .with_block_out_channels([4, 4, 8, 8])
            .with_layers_per_block(1)
            .with_norm_num_groups(1)
            .init(&device);
        let inflated = inflate(vae.clone());
        let random = Distribution::Uniform(-1.0, 1.0);
        let image = Tensor::<5>::random([1, 3, 1, 16, 16], random, (&device, DType::F32));
        let reconstruct = |vae: &Vae, video: Tensor<5>| vae.decode(vae.encode(video).mode());
        let before = reconstruct(&vae, image.clone());
        let after = reconstruct(&inflated, image.clone());
        let error = (after - before).abs().max().into_scalar::<f32>();
        assert!(error < 1e-4, "{error}");

        // Without memory of earlier frames, the last frame alone decides on the last latents.
        let conv = &inflated.encoder.conv_in;
        let clip = Tensor::<5>::random([1, 3, 5, 16, 16], random, (&device, DType::F32));
        let whole = conv.forward(clip.clone()).narrow(2, 4, 1);
        let alone = conv.forward(clip.narrow(2, 4, 1));
        let error = (whole - alone).abs().max().into_scalar::<f32>();
        assert!(error < 1e-5, "{error}");
    }
}
