//! A perceptron that learns within seconds, as a task for the run and the optimizer.

use burn::{
    module::{Module, ModuleVisitor},
    nn::{Linear, LinearConfig},
    tensor::{DType, Device, Tensor, TensorData},
};
use burn_hunyuan_train::{
    Result,
    optimizer::{Gradients, Optimizer, OptimizerConfig},
    run::{Checkpoint, CheckpointWriter, Metrics, Task},
};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use rand_distr::{Distribution, StandardNormal};

/// The device whose runs repeat themselves to the last bit.
pub fn flex() -> Device {
    burn_hunyuan::device::open("flex").unwrap()
}

/// Two linear layers with a hyperbolic tangent between them.
#[derive(Module, Debug)]
pub struct Perceptron {
    pub fc1: Linear,
    pub fc2: Linear,
}

impl Perceptron {
    pub fn new([input, hidden, output]: [usize; 3], device: &Device) -> Self {
        Self {
            fc1: LinearConfig::new(input, hidden).init(device),
            fc2: LinearConfig::new(hidden, output).init(device),
        }
    }

    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.fc2.forward(self.fc1.forward(x).tanh())
    }

    /// The mean squared error, and its gradients scaled by `share`.
    pub fn gradients(&self, x: Tensor<2>, y: Tensor<2>, share: f64) -> (f64, Gradients) {
        let loss = (self.forward(x) - y).square().mean() * share;
        let gradients = Gradients::of(self, &mut loss.backward());
        (f64::from(loss.into_scalar::<f32>()), gradients)
    }
}

/// Learns to square numbers; inputs follow from the seed and the step.
pub struct Squares {
    pub kind: &'static str,
    model: Perceptron,
    optimizer: Optimizer,
    pending: Option<(Gradients, f64)>,
    device: Device,
    /// What happens at a step, before its gradients.
    pub at_step: Box<dyn FnMut(u64)>,
    /// What happens in the middle of a save; told how many steps there were.
    pub at_save: Box<dyn Fn(u64)>,
    /// Replaces the loss of a step.
    pub spoil: fn(u64) -> Option<f64>,
    step: u64,
}

impl Squares {
    pub fn new(steps: u64, device: &Device) -> Self {
        let device = device.clone().autodiff();
        let model = Perceptron::new([8, 64, 8], &device);
        let config = OptimizerConfig {
            learning_rate: 1e-2,
            ..OptimizerConfig::default()
        };
        Self {
            kind: "squares",
            optimizer: Optimizer::new(&config, &model, steps),
            model,
            pending: None,
            device,
            at_step: Box::new(|_| ()),
            at_save: Box::new(|_| ()),
            spoil: |_| None,
            step: 0,
        }
    }

    fn batch(&self, step: u64) -> Tensor<2> {
        let mut rng = ChaCha12Rng::seed_from_u64(5);
        rng.set_stream(step);
        let values: Vec<f32> = (0..32 * 8)
            .map(|_| StandardNormal.sample(&mut rng))
            .collect();
        Tensor::from_data(TensorData::new(values, [32, 8]), (&self.device, DType::F32))
    }
}

impl Task for Squares {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn notes(&self) -> Vec<String> {
        vec!["numbers are drawn".into()]
    }

    fn gradients(&mut self, step: u64) -> Result<Metrics> {
        (self.at_step)(step);
        self.step = step;
        let x = self.batch(step);
        let (loss, gradients) = self.model.gradients(x.clone(), x.square(), 1.0);
        let norm = gradients.norm();
        self.pending = Some((gradients, norm));
        let loss = (self.spoil)(step).unwrap_or(loss);
        Ok(Metrics::new(loss).with("grad_norm", norm))
    }

    fn update(&mut self) -> Result<()> {
        let (gradients, norm) = self.pending.take().unwrap();
        self.model = self.optimizer.step(self.model.clone(), gradients, norm);
        Ok(())
    }

    fn save(&self, checkpoint: &mut CheckpointWriter) -> Result<()> {
        self.optimizer.save(checkpoint, "model")?;
        (self.at_save)(self.step);
        checkpoint.state("step", self.step)
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.step = checkpoint.state("step")?;
        self.model = self
            .optimizer
            .restore(checkpoint, "model", self.model.clone())?;
        Ok(())
    }
}

/// Whether every parameter still wants a gradient.
pub fn all_require_grad<M: Module>(module: &M) -> bool {
    struct All(bool);
    impl ModuleVisitor for All {
        fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<D>>) {
            self.0 &= param.val().is_require_grad();
        }
    }
    let mut all = All(true);
    module.visit(&mut all);
    all.0
}
