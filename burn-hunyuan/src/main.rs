//! The `burn-hunyuan` program; see [`burn_hunyuan::cli`].

fn main() -> std::process::ExitCode {
    burn_hunyuan::cli::run()
}
