//! The hub's protocol: a listing, the place of each file, and the transfer of its bytes.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use ureq::Agent;
use ureq::Body;
use ureq::config::RedirectAuthHeaders;
use ureq::http::{Response, StatusCode};

use super::cache::create_parent;
use super::{Error, Hub, RepoId, Result};

/// A silent connection is given up after this, and a transfer then resumed.
const SILENCE: Duration = Duration::from_secs(30);
/// Attempts in a row that may bring nothing.
const ATTEMPTS: u32 = 5;

pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
}

/// A repository at one commit.
pub(super) struct Listing {
    pub(super) commit: String,
    /// Paths relative to the repository.
    pub(super) files: Vec<String>,
}

/// A file on the server.
pub(super) struct Remote {
    url: String,
    /// The hash of its content.
    pub(super) etag: String,
}

/// Called with the bytes on the disk and in all.
type Report<'a> = dyn FnMut(u64, u64) -> Result<()> + 'a;

impl Client {
    pub(super) fn new(hub: &Hub) -> Self {
        let agent = Agent::config_builder()
            .user_agent(concat!(
                env!("CARGO_PKG_NAME"),
                "/",
                env!("CARGO_PKG_VERSION")
            ))
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            // The token must not reach the servers that hold the large files.
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .build()
            .into();
        Self {
            agent,
            endpoint: hub.endpoint.clone(),
            token: hub.token.clone(),
        }
    }

    /// The files of a repository.
    pub(super) fn list(&self, id: &RepoId) -> Result<Listing> {
        #[derive(Deserialize)]
        struct Answer {
            sha: String,
            siblings: Vec<Sibling>,
        }
        #[derive(Deserialize)]
        struct Sibling {
            rfilename: String,
        }
        let revision = id.revision.replace('/', "%2F");
        let url = format!(
            "{}/api/models/{}/revision/{revision}",
            self.endpoint, id.name
        );
        let mut response = self.get(&url, None, true)?;
        self.check(&url, id, &response)?;
        let malformed = |reason: String| Error::Answer {
            url: url.clone(),
            reason,
        };
        let answer: Answer = serde_json::from_reader(response.body_mut().as_reader())
            .map_err(|e| malformed(e.to_string()))?;
        let files: Vec<_> = answer.siblings.into_iter().map(|s| s.rfilename).collect();
        // They become file names here.
        if !is_hash(&answer.sha) || !files.iter().all(|file| is_inner(file)) {
            return Err(malformed("its file names are not safe".into()));
        }
        Ok(Listing {
            commit: answer.sha,
            files,
        })
    }

    /// Asks for the hash of a file, which must belong to `commit`.
    pub(super) fn locate(&self, id: &RepoId, file: &str, commit: &str) -> Result<Remote> {
        let path: Vec<String> = file.split('/').map(percent_encoded).collect();
        let revision = id.revision.replace('/', "%2F");
        let url = format!(
            "{}/{}/resolve/{revision}/{}",
            self.endpoint,
            id.name,
            path.join("/")
        );
        // Large files lie elsewhere, but only the hub knows their hash: it is in the redirection.
        // Redirections within the hub (renamed repositories) are followed.
        let mut place = url.clone();
        let mut response = self.get(&place, Some("bytes=0-0"), false)?;
        for _ in 0..5 {
            match header(&response, "location") {
                Some(path) if path.starts_with('/') => place = format!("{}{path}", self.endpoint),
                _ => break,
            }
            response = self.get(&place, Some("bytes=0-0"), false)?;
        }
        if !response.status().is_redirection() {
            self.check(&url, id, &response)?;
        }
        let malformed = |reason: &str| Error::Answer {
            url: url.clone(),
            reason: reason.into(),
        };
        if header(&response, "x-repo-commit").is_some_and(|current| current != commit) {
            return Err(malformed("the repository has just changed; try again"));
        }
        let etag = header(&response, "x-linked-etag").or_else(|| header(&response, "etag"));
        let etag = etag.ok_or_else(|| malformed("it does not tell the file's hash"))?;
        let etag = etag.trim_start_matches("W/").trim_matches('"').to_string();
        if !is_hash(&etag) {
            return Err(malformed("the file's hash is malformed"));
        }
        Ok(Remote { url: place, etag })
    }

    /// Transfers a file to `blob`, going on where an earlier transfer stopped.
    pub(super) fn download(&self, remote: &Remote, blob: &Path, report: &mut Report) -> Result<()> {
        let mut partial = blob.as_os_str().to_owned();
        partial.push(".incomplete");
        let partial = PathBuf::from(partial);
        let failed = |source| Error::Write {
            path: partial.clone(),
            source,
        };
        create_parent(&partial).map_err(failed)?;
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&partial)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Busy { path: partial }),
            Err(TryLockError::Error(_)) => {} // a file system without locks
        }
        let mut attempt = 1;
        loop {
            let before = length(&file).map_err(failed)?;
            match self.transfer(remote, &mut file, &partial, report) {
                Err(Error::Unreachable { url, reason }) => {
                    let arrived = length(&file).map_err(failed)? > before;
                    attempt = if arrived { 1 } else { attempt + 1 };
                    if attempt > ATTEMPTS {
                        return Err(Error::Unreachable { url, reason });
                    }
                    tracing::warn!("{url}: {reason}; going on");
                    std::thread::sleep(Duration::from_millis(200) * attempt);
                }
                result => {
                    result?;
                    break;
                }
            }
        }
        file.sync_all()
            .and_then(|()| fs::rename(&partial, blob))
            .map_err(failed)
    }

    /// One request for what is missing of `file`, which is appended.
    fn transfer(
        &self,
        remote: &Remote,
        file: &mut File,
        path: &Path,
        report: &mut Report,
    ) -> Result<()> {
        let failed = |source| Error::Write {
            path: path.to_path_buf(),
            source,
        };
        let broken = |reason: String| Error::Unreachable {
            url: remote.url.clone(),
            reason,
        };
        let mut bytes = length(file).map_err(failed)?;
        let mut response = self.get(&remote.url, Some(&format!("bytes={bytes}-")), true)?;
        let range = header(&response, "content-range").and_then(content_range);
        let total = match (response.status().as_u16(), range) {
            (206, Some((Some(start), total))) if start == bytes => total,
            // A complete file whose name was not reached.
            (416, Some((_, total))) if total == bytes => return Ok(()),
            // The server sends all: one that knows no ranges, or of an empty file.
            (200, _) => {
                file.set_len(0).map_err(failed)?;
                bytes = 0;
                response.body().content_length().unwrap_or(u64::MAX)
            }
            (206 | 416, _) => {
                file.set_len(0).map_err(failed)?;
                return Err(broken("the part on the disk does not fit the file".into()));
            }
            (status, _) if status == 429 || status >= 500 => {
                return Err(broken(format!("status {status}")));
            }
            (status, _) => {
                let (url, reason) = (remote.url.clone(), format!("status {status}"));
                return Err(Error::Answer { url, reason });
            }
        };
        report(bytes, total)?;
        let mut reader = response.body_mut().as_reader();
        let mut piece = vec![0; 1 << 20];
        loop {
            match reader.read(&mut piece).map_err(|e| broken(e.to_string()))? {
                0 if bytes == total || total == u64::MAX => return Ok(()),
                0 => return Err(broken(format!("it ended after {bytes} of {total} bytes"))),
                count => {
                    file.write_all(&piece[..count]).map_err(failed)?;
                    bytes += count as u64;
                    report(bytes, total)?;
                }
            }
        }
    }

    /// A request; `follow` says whether to follow redirections.
    fn get(&self, url: &str, range: Option<&str>, follow: bool) -> Result<Response<Body>> {
        let mut request = self.agent.get(url);
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if let Some(range) = range {
            request = request.header("Range", range);
        }
        let request = request
            .config()
            .max_redirects(if follow { 10 } else { 0 })
            .build();
        request.call().map_err(|e| Error::Unreachable {
            url: url.into(),
            reason: e.to_string(),
        })
    }

    /// Turns the status of an answer about a repository into an error.
    fn check(&self, url: &str, id: &RepoId, response: &Response<Body>) -> Result<()> {
        let status = response.status();
        // 416: there is no first byte of an empty file.
        if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(());
        }
        let id = id.clone();
        Err(
            match (
                header(response, "x-error-code").unwrap_or_default(),
                status.as_u16(),
            ) {
                ("GatedRepo", _) | ("", 403) => {
                    let page = format!("{}/{}", self.endpoint, id.name);
                    Error::Gated { id, page }
                }
                ("RevisionNotFound", _) => Error::RevisionNotFound { id },
                ("RepoNotFound", _) | ("", 401 | 404) => Error::NotFound { id },
                (_, code) if code == 429 || code >= 500 => Error::Unreachable {
                    url: url.into(),
                    reason: format!("status {code}"),
                },
                (_, code) => Error::Answer {
                    url: url.into(),
                    reason: format!("status {code}"),
                },
            },
        )
    }
}

/// Start and total of `bytes START-END/TOTAL` or `bytes */TOTAL`.
fn content_range(text: &str) -> Option<(Option<u64>, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let start = range
        .split_once('-')
        .and_then(|(start, _)| start.parse().ok());
    Some((start, total.parse().ok()?))
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

fn length(file: &File) -> std::io::Result<u64> {
    Ok(file.metadata()?.len())
}

/// Whether a hash is safe as a file name.
fn is_hash(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// Whether a path stays within its folder.
fn is_inner(path: &str) -> bool {
    !path.is_empty()
        && !path.contains('\\')
        && Path::new(path)
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
}

/// A path segment with everything but the unreserved characters of RFC 3986 escaped.
fn percent_encoded(segment: &str) -> String {
    let escaped = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    };
    segment.bytes().map(escaped).collect()
}
