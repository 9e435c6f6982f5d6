//! A small hub on the loopback interface.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard},
};

use burn_hunyuan::checkpoint::hub::Hub;
use tempfile::TempDir;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub const WEIGHTS: &str = "transformer/diffusion_pytorch_model.safetensors";

/// What the server has and how it behaves.
#[derive(Default)]
pub struct State {
    pub files: BTreeMap<String, Vec<u8>>,
    /// Requests for file contents, with their ranges; not the probes of one byte.
    transfers: Vec<(String, String)>,
    pub requests: usize,
    /// Close the connection after so many bytes of a content, so many times.
    pub cut_after: usize,
    pub cuts: usize,
    /// Answer every request with the whole file.
    pub ignore_ranges: bool,
    /// Answer everything with this status and error code.
    pub refuse: Option<(u16, &'static str)>,
    /// The `Authorization` header of the hub's requests, and of those for large files.
    pub authorization: [Vec<String>; 2],
}

/// A hub with the repository `owner/name` at one commit; like the real one it redirects to another
/// address for the contents of large files.
pub struct Server {
    pub address: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let content: Vec<u8> = (0..3_000_000u32)
            .map(|i| (i.wrapping_mul(2654435761) >> 13) as u8)
            .collect();
        state.lock().unwrap().files = [
            ("model_index.json", b"{}".to_vec()),
            ("transformer/config.json", b"{\"a\": 1}".to_vec()),
            (WEIGHTS, content),
            ("vae/diffusion_pytorch_model.safetensors", vec![7; 1000]),
            ("tokenizer/merges.txt", Vec::new()),
            ("README.md", b"not needed".to_vec()),
        ]
        .map(|(name, bytes)| (name.to_string(), bytes))
        .into();
        let (for_server, own) = (state.clone(), address.clone());
        // Another name of the same host is another host to a client.
        let storage = own.replace("127.0.0.1", "localhost");
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, storage) = (for_server.clone(), storage.clone());
                std::thread::spawn(move || answer(stream, &state, &storage));
            }
        });
        Self { address, state }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn hub(&self, cache: &TempDir) -> Hub {
        let (endpoint, cache) = (self.address.clone(), cache.path().to_path_buf());
        Hub {
            endpoint,
            cache,
            token: None,
            offline: false,
        }
    }

    pub fn content(&self, file: &str) -> Vec<u8> {
        self.state().files[file].clone()
    }

    pub fn transfers_of(&self, file: &str) -> Vec<String> {
        let state = self.state();
        let of_file = state.transfers.iter().filter(|(name, _)| name == file);
        of_file.map(|(_, range)| range.clone()).collect()
    }
}

/// Answers one request and closes the connection.
fn answer(stream: TcpStream, state: &Mutex<State>, storage: &str) {
    let mut lines = BufReader::new(&stream)
        .lines()
        .map_while(std::io::Result::ok);
    let Some(request) = lines.next() else { return };
    let path = request.split(' ').nth(1).unwrap().to_string();
    let headers: BTreeMap<String, String> = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_ascii_lowercase(), value.to_string()))
        })
        .collect();
    let range = headers.get("range").cloned().unwrap_or_default();
    let authorization = headers.get("authorization").cloned().unwrap_or_default();

    let mut state = state.lock().unwrap();
    state.requests += 1;
    if let Some((status, code)) = state.refuse {
        return send(stream, status, &[("X-Error-Code", code)], b"");
    }
    if path == "/api/models/owner/name/revision/main" {
        let files: Vec<_> = state
            .files
            .keys()
            .map(|f| serde_json::json!({ "rfilename": f }))
            .collect();
        let listing = serde_json::json!({ "sha": COMMIT, "siblings": files }).to_string();
        return send(stream, 200, &[], listing.as_bytes());
    }
    let on_hub = path.strip_prefix("/owner/name/resolve/main/");
    let Some(file) = on_hub.or_else(|| path.strip_prefix("/storage/")) else {
        return send(stream, 404, &[("X-Error-Code", "RepoNotFound")], b"");
    };
    let Some(content) = state.files.get(file).cloned() else {
        return send(stream, 404, &[("X-Error-Code", "EntryNotFound")], b"");
    };
    state.authorization[usize::from(on_hub.is_none())].push(authorization);
    let etag = format!("\"{:x}{}\"", content.len(), file.len());
    if on_hub.is_some() && content.len() > 500 {
        let location = format!("{storage}/storage/{file}");
        let headers = [
            ("Location", &*location),
            ("X-Linked-ETag", &*etag),
            ("X-Repo-Commit", COMMIT),
        ];
        return send(stream, 302, &headers, b"");
    }
    if range != "bytes=0-0" {
        state.transfers.push((file.to_string(), range.clone()));
    }
    let headers = [("ETag", &*etag), ("X-Repo-Commit", COMMIT)];
    let (start, end) = range
        .trim_start_matches("bytes=")
        .split_once('-')
        .unwrap_or(("0", ""));
    let start: usize = start.parse().unwrap();
    let end = end
        .parse()
        .map_or(content.len(), |end: usize| content.len().min(end + 1));
    let (status, part) = if state.ignore_ranges || range.is_empty() {
        (200, &content[..])
    } else if start >= content.len() {
        let content_range = format!("bytes */{}", content.len());
        let headers = [&headers[..], &[("Content-Range", &content_range)]].concat();
        return send(stream, 416, &headers, b"");
    } else {
        (206, &content[start..end])
    };
    let content_range = format!("bytes {start}-{}/{}", end - 1.min(end), content.len());
    let headers = [&headers[..], &[("Content-Range", &content_range)]].concat();
    let headers = if status == 206 {
        &headers[..]
    } else {
        &headers[..2]
    };
    if state.cuts > 0 && part.len() > state.cut_after {
        state.cuts -= 1;
        let length = part.len().to_string();
        let headers = [headers, &[("Content-Length", &length)]].concat();
        send_head(&stream, status, &headers);
        let _ = (&stream).write_all(&part[..state.cut_after]);
    } else {
        send(stream, status, headers, part);
    }
}

fn send(stream: TcpStream, status: u16, headers: &[(&str, &str)], body: &[u8]) {
    let length = body.len().to_string();
    send_head(
        &stream,
        status,
        &[headers, &[("Content-Length", &length)]].concat(),
    );
    let _ = (&stream).write_all(body);
}

fn send_head(mut stream: &TcpStream, status: u16, headers: &[(&str, &str)]) {
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let _ = write!(
        stream,
        "HTTP/1.1 {status} x\r\n{lines}Connection: close\r\n\r\n"
    );
}
