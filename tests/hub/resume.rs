//! Downloads that stop on the way, and what the next makes of their partial files.

use std::{ops::ControlFlow, path::PathBuf};

use burn_hunyuan::checkpoint::hub::{Error, Hub, Progress};
use tempfile::TempDir;

use crate::{
    fetch,
    server::{Server, WEIGHTS},
};

#[test]
fn a_cut_connection_is_taken_up_where_it_stopped() {
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    (server.state().cut_after, server.state().cuts) = (1_000_000, 1);
    let snapshot = fetch(&server.hub(&cache)).unwrap();
    assert_eq!(server.transfers_of(WEIGHTS), ["bytes=0-", "bytes=1000000-"]);
    assert!(std::fs::read(snapshot.join(WEIGHTS)).unwrap() == server.content(WEIGHTS));
}

#[test]
fn a_cancelled_download_is_taken_up_by_the_next() {
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    let hub = server.hub(&cache);
    let mut seen = 0;
    let result =
        hub.fetch("owner/name", &mut |Progress {
                                          file, bytes, total, ..
                                      }| {
            assert!(bytes <= total);
            if file != WEIGHTS {
                return ControlFlow::Continue(());
            }
            assert_eq!(total, 3_000_000);
            seen = bytes;
            if bytes > 0 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
    assert!(matches!(result, Err(Error::Cancelled)));
    assert!(0 < seen && seen < 3_000_000);
    // What is there does not count as a checkpoint yet.
    assert!(
        fetch(&Hub {
            offline: true,
            ..hub.clone()
        })
        .is_err()
    );

    let mut resumed_at = None;
    let snapshot = hub.fetch("owner/name", &mut |progress| {
        if progress.file == WEIGHTS {
            resumed_at.get_or_insert(progress.bytes);
        }
        ControlFlow::Continue(())
    });
    assert_eq!(resumed_at, Some(seen));
    assert_eq!(
        server.transfers_of(WEIGHTS),
        ["bytes=0-".to_string(), format!("bytes={seen}-")]
    );
    assert!(std::fs::read(snapshot.unwrap().join(WEIGHTS)).unwrap() == server.content(WEIGHTS));
}

/// Where the partial file of the weights is kept.
fn partial(server: &Server, cache: &TempDir) -> PathBuf {
    let etag = format!("{:x}{}", server.content(WEIGHTS).len(), WEIGHTS.len());
    let blobs = cache.path().join("models--owner--name/blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    blobs.join(format!("{etag}.incomplete"))
}

#[test]
fn partial_files_of_any_length_end_right() {
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    let content = server.content(WEIGHTS);
    // Complete but for its name; longer than the file; a part, from a server without ranges.
    for (length, ignore_ranges) in [(3_000_000, false), (3_000_001, false), (1234, true)] {
        let _ = std::fs::remove_dir_all(cache.path().join("models--owner--name"));
        let mut bytes = content.clone();
        bytes.resize(length, 0);
        std::fs::write(partial(&server, &cache), bytes).unwrap();
        server.state().ignore_ranges = ignore_ranges;
        let snapshot = fetch(&server.hub(&cache)).unwrap();
        assert!(
            std::fs::read(snapshot.join(WEIGHTS)).unwrap() == content,
            "{length}"
        );
    }
}

#[test]
fn a_file_that_another_process_downloads_is_left_alone() {
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    let file = std::fs::File::create(partial(&server, &cache)).unwrap();
    file.lock().unwrap();
    assert!(matches!(
        fetch(&server.hub(&cache)),
        Err(Error::Busy { .. })
    ));
    drop(file);
    fetch(&server.hub(&cache)).unwrap();
}

#[test]
fn a_connection_that_never_delivers_is_given_up() {
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    (server.state().cut_after, server.state().cuts) = (0, usize::MAX);
    let error = fetch(&server.hub(&cache)).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}
