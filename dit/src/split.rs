//! A model on several devices: ranges of its blocks on each.

use burn::{
    module::Module,
    tensor::{Device, Tensor},
};

use crate::{Dit, DualBlock, Sequence, SingleBlock};

impl Dit {
    /// Places ranges of the blocks on `devices`, about the same number of weights on each. All that
    /// is not a block goes to the first, where inputs are taken and outputs come from. Weights that
    /// are not loaded yet will be loaded to where they belong.
    pub fn split(self, devices: &[Device]) -> Self {
        let [first, _, ..] = devices else {
            return self;
        };
        let mut model = self.fork(first);
        let duals = model.dual_blocks.iter().map(Module::num_params);
        let singles = model.single_blocks.iter().map(Module::num_params);
        let sizes: Vec<usize> = duals.chain(singles).collect();
        let mut places = places(&sizes, devices.len())
            .into_iter()
            .map(|place| &devices[place]);
        model.dual_blocks = moved(model.dual_blocks, &mut places);
        model.single_blocks = moved(model.single_blocks, &mut places);
        model
    }
}

impl DualBlock {
    /// Where its weights are.
    pub fn device(&self) -> Device {
        // Not a linear weight: beside a LoRA, its value has to be computed.
        self.image.q_norm.weight.device()
    }
}

impl SingleBlock {
    /// Where its weights are.
    pub fn device(&self) -> Device {
        self.q_norm.weight.device()
    }
}

impl Sequence {
    /// The same on another device.
    pub fn place(mut self, device: &Device) -> Self {
        self.rope = self.rope.place(device);
        self
    }
}

/// `x` on `device`; nothing happens where it is there already. Gradients find their way back.
pub fn place<const D: usize>(x: Tensor<D>, device: &Device) -> Tensor<D> {
    match x.device().without_autodiff() == device.clone().without_autodiff() {
        true => x,
        false => x.to_device(device),
    }
}

/// For each block the device that it goes to: in order, and so that the sizes on all of `devices`
/// add up to about the same.
fn places(sizes: &[usize], devices: usize) -> Vec<usize> {
    let total = sizes.iter().sum::<usize>().max(1);
    let mut before = 0;
    let place = |size: &usize| {
        // A block goes where its middle falls.
        let middle = before + size / 2;
        before += size;
        (middle * devices / total).min(devices - 1)
    };
    sizes.iter().map(place).collect()
}

fn moved<'a, M: Module>(blocks: Vec<M>, devices: &mut impl Iterator<Item = &'a Device>) -> Vec<M> {
    let blocks = blocks.into_iter().zip(devices);
    blocks.map(|(block, device)| block.fork(device)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_get_ranges_of_about_the_same_size() {
        assert_eq!(places(&[36, 36, 15, 15, 15, 15], 2), [0, 0, 1, 1, 1, 1]);
        assert_eq!(places(&[1; 6], 3), [0, 0, 1, 1, 2, 2]);
        assert_eq!(places(&[1; 2], 5).len(), 2);
        assert_eq!(places(&[5; 4], 1), [0; 4]);
        // The published model on two devices.
        let sizes: Vec<usize> = [[36; 20].as_slice(), &[15; 40]].concat();
        let first = places(&sizes, 2)
            .iter()
            .filter(|place| **place == 0)
            .count();
        let sum = |range: &[usize]| range.iter().sum::<usize>();
        assert!(sum(&sizes[..first]).abs_diff(sum(&sizes[first..])) < 36);
    }
}
