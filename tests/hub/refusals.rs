//! What the hub or the cache refuses, and what we refuse of them.

use std::{ops::ControlFlow, path::PathBuf};

use burn_hunyuan::checkpoint::hub::{Error, Hub};
use tempfile::TempDir;

use crate::{fetch, files_below, server::Server};

#[test]
fn refusals_say_what_to_do() {
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    for (status, code, part) in [
        (401, "RepoNotFound", "no repository owner/name"),
        (404, "RevisionNotFound", "no such revision"),
        (403, "GatedRepo", "accept its conditions"),
        (503, "", "status 503"),
        (400, "", "status 400"),
    ] {
        server.state().refuse = Some((status, code));
        let error = fetch(&server.hub(&cache)).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
        assert!(files_below(cache.path()).is_empty());
    }
    for id in [
        "", "name", "a/b/c", "../x", "a/..", "a/b@", "a/b@../c", "a b/c", "/a/b", "a/b--c",
    ] {
        let result = server
            .hub(&cache)
            .fetch(id, &mut |_| ControlFlow::Continue(()));
        assert!(matches!(result, Err(Error::InvalidId(_))), "{id:?}");
    }
}

#[test]
fn file_names_cannot_leave_the_cache() {
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    server
        .state()
        .files
        .insert("vae/../../../../evil.json".into(), vec![0]);
    let error = fetch(&server.hub(&cache)).unwrap_err();
    assert!(matches!(error, Error::Answer { .. }), "{error}");
    assert!(files_below(cache.path()).is_empty());
}

#[test]
#[cfg(target_os = "linux")]
fn an_unwritable_cache_is_named() {
    let server = Server::start();
    let cache = PathBuf::from("/proc/nothing");
    let hub = Hub {
        endpoint: server.address.clone(),
        cache,
        token: None,
        offline: false,
    };
    let error = fetch(&hub).unwrap_err();
    assert!(matches!(error, Error::Write { .. }), "{error}");
    assert!(error.to_string().contains("/proc/nothing"), "{error}");
}
