//! Downloads where all is well, and the cache they leave.

use std::{net::TcpListener, ops::ControlFlow};

use burn_hunyuan::checkpoint::hub::{Error, Hub, Progress};
use tempfile::TempDir;

use crate::{
    fetch, files_below,
    server::{COMMIT, Server, WEIGHTS},
};

#[test]
fn downloads_what_is_needed_once_and_serves_it_offline() {
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    let hub = server.hub(&cache);
    let snapshot = fetch(&hub).unwrap();
    assert_eq!(
        files_below(&snapshot),
        [
            "model_index.json",
            "tokenizer/merges.txt",
            "transformer/config.json",
            WEIGHTS,
            "vae/diffusion_pytorch_model.safetensors",
        ]
    );
    for file in files_below(&snapshot) {
        assert_eq!(
            std::fs::read(snapshot.join(&file)).unwrap(),
            server.content(&file),
            "{file}"
        );
    }
    // The Python library's layout.
    let root = cache.path().join("models--owner--name");
    assert_eq!(snapshot, root.join("snapshots").join(COMMIT));
    assert_eq!(
        std::fs::read_to_string(root.join("refs/main")).unwrap(),
        COMMIT
    );
    assert!(
        files_below(&root.join("blobs"))
            .iter()
            .all(|f| !f.ends_with(".incomplete"))
    );
    #[cfg(unix)]
    assert!(
        std::fs::read_link(snapshot.join(WEIGHTS))
            .unwrap()
            .starts_with("../../../blobs")
    );

    let requests = server.state().requests;
    assert_eq!(fetch(&hub).unwrap(), snapshot);
    assert_eq!(
        server.state().requests,
        requests + 1,
        "only the listing is asked for again"
    );

    // The server is gone.
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let gone = Hub {
        endpoint: format!("http://{address}"),
        ..hub.clone()
    };
    assert_eq!(fetch(&gone).unwrap(), snapshot);
    assert_eq!(
        fetch(&Hub {
            offline: true,
            ..hub.clone()
        })
        .unwrap(),
        snapshot
    );
    let other = TempDir::new().unwrap();
    let error = fetch(&Hub {
        cache: other.path().into(),
        ..gone
    })
    .unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    let error = fetch(&Hub {
        cache: other.path().into(),
        offline: true,
        ..hub
    })
    .unwrap_err();
    assert!(matches!(error, Error::Offline { .. }), "{error}");
}

#[test]
fn the_token_stays_with_the_hub() {
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    let hub = Hub {
        token: Some("secret".into()),
        ..server.hub(&cache)
    };
    fetch(&hub).unwrap();
    let [hub, storage] = server.state().authorization.clone();
    assert!(!hub.is_empty() && hub.iter().all(|header| header == "Bearer secret"));
    assert!(!storage.is_empty() && storage.iter().all(String::is_empty));
}

/// A repository of one model in many sizes.
#[test]
fn nothing_is_downloaded_before_it_is_known_which() {
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    server.state().files = [
        ("a-Q4_0.gguf", vec![4; 2000]),
        ("a-Q8_0.gguf", vec![8; 1000]),
        ("README.md", Vec::new()),
    ]
    .map(|(name, bytes)| (name.to_string(), bytes))
    .into();
    let hub = server.hub(&cache);
    let error = fetch(&hub).unwrap_err();
    assert!(matches!(error, Error::Ambiguous { .. }), "{error}");
    let told = error.to_string();
    for part in ["owner/name/FILE", "a-Q4_0.gguf", "a-Q8_0.gguf"] {
        assert!(told.contains(part), "{told}");
    }
    assert!(files_below(cache.path()).is_empty());

    let go_on = &mut |_: Progress| ControlFlow::Continue(());
    let path = hub.fetch("owner/name/a-Q8_0.gguf", go_on).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), [8; 1000]);
    assert_eq!(files_below(path.parent().unwrap()), ["a-Q8_0.gguf"]);
    let error = hub.fetch("owner/name/a-Q2_K.gguf", go_on).unwrap_err();
    assert!(error.to_string().contains("no such file"), "{error}");

    let offline = Hub {
        offline: true,
        ..hub
    };
    assert_eq!(
        offline.fetch("owner/name/a-Q8_0.gguf", go_on).unwrap(),
        path
    );
    let error = offline.fetch("owner/name/a-Q4_0.gguf", go_on).unwrap_err();
    assert!(matches!(error, Error::Offline { .. }), "{error}");
}
