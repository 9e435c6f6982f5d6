//! Settings from the environment.

use burn_hunyuan::checkpoint::hub::Hub;
use tempfile::TempDir;

/// Runs this test binary again with another environment and has it print what it reads.
#[test]
fn the_environment_configures_it() {
    let read = |variables: &[(&str, &str)]| {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args([
            "--exact",
            "environment::print_environment",
            "--ignored",
            "--nocapture",
        ]);
        child.env_clear().envs(variables.iter().copied());
        String::from_utf8(child.output().unwrap().stdout).unwrap()
    };
    let home = TempDir::new().unwrap();
    let home_path = home.path().to_str().unwrap();
    std::fs::write(home.path().join("token"), "from-file\n").unwrap();

    let printed = read(&[("HF_HOME", home_path), ("HF_ENDPOINT", "http://hub/")]);
    assert!(
        printed.contains(&format!("endpoint=http://hub cache={home_path}/hub")),
        "{printed}"
    );
    assert!(
        printed.contains("token=from-file offline=false"),
        "{printed}"
    );
    let printed = read(&[
        ("HOME", "/home/x"),
        ("HF_HUB_CACHE", "/c"),
        ("HF_TOKEN", "t"),
        ("HF_HUB_OFFLINE", "1"),
    ]);
    assert!(
        printed.contains("endpoint=https://huggingface.co cache=/c token=t offline=true"),
        "{printed}"
    );
    let printed = read(&[("HOME", "/home/x")]);
    assert!(
        printed.contains("cache=/home/x/.cache/huggingface/hub"),
        "{printed}"
    );
}

#[test]
#[ignore = "a part of the_environment_configures_it"]
fn print_environment() {
    let Hub {
        endpoint,
        cache,
        token,
        offline,
    } = Hub::from_env();
    let (cache, token) = (cache.display(), token.unwrap_or_default());
    println!("endpoint={endpoint} cache={cache} token={token} offline={offline}");
}
