//! The names of a module's parameters, as files have them.

/// The type of a LoRA's matrices.
const LORA: &str = "Struct:LoraAdapter";

/// Where a [`ModuleVisitor`](burn::module::ModuleVisitor) or
/// [`ModuleMapper`](burn::module::ModuleMapper) is: the fields entered, and the type that holds the
/// innermost.
#[derive(Clone, Debug, Default)]
pub struct ParameterPath(Vec<(String, String)>);

impl ParameterPath {
    /// For the visitor's method of this name.
    pub fn enter(&mut self, name: &str, container: &str) {
        self.0.push((name.to_string(), container.to_string()));
    }

    /// For the visitor's `exit_module`.
    pub fn exit(&mut self) {
        self.0.pop();
    }

    /// The dotted path as files spell it: burn calls the affine part of its norms gamma and beta, and
    /// keeps a LoRA's matrices, `layer.lora_A.weight` in files, below the weight.
    pub fn name(&self) -> String {
        let fields = self
            .0
            .iter()
            .map(|(field, container)| match field.as_str() {
                "gamma" if container == "Struct:LayerNorm" => "weight",
                "beta" if container == "Struct:LayerNorm" => "bias",
                "a" if container == LORA => "lora_A.weight",
                "b" if container == LORA => "lora_B.weight",
                field => field,
            });
        let name = fields.collect::<Vec<_>>().join(".");
        name.replace("weight.lora.lora_", "lora_")
    }

    /// Whether the parameter is the weight of a linear layer, or a matrix of its LoRA: `[in, out]`
    /// in burn and `[out, in]` in a file.
    pub fn is_transposed(&self) -> bool {
        let last = self.0.last();
        last.is_some_and(|(field, container)| {
            (field == "weight" && container == "Struct:Linear") || container == LORA
        })
    }
}
