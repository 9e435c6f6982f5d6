//! MP4 through our own reader.

use burn_hunyuan::video::{Quality, VideoWriter};
use tempfile::TempDir;

use crate::pictures::{patch_difference, patches, psnr, read, smooth, write};

#[test]
fn mp4_round_trip_keeps_frames_rate_and_size() {
    let folder = TempDir::new().unwrap();
    for (fps, count) in [(24.0, 30), (24000.0 / 1001.0, 5), (12.5, 1)] {
        let frames: Vec<_> = (0..count).map(|i| smooth(128, 96, i)).collect();
        let path = folder.path().join("a.mp4");
        write(&path, &frames, fps);
        let (read_fps, decoded) = read(&path);
        assert!((read_fps - fps).abs() < 1e-9, "{read_fps} instead of {fps}");
        assert_eq!(decoded.len(), frames.len());
        for (a, b) in frames.iter().zip(&decoded) {
            let psnr = psnr(a, b);
            assert!(psnr >= 35.0, "{psnr:.1} dB");
        }
    }
}

#[test]
fn mp4_keeps_flat_colours() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("patches.mp4");
    write(&path, &[patches()], 24.0);
    let difference = patch_difference(&patches(), &read(&path).1[0]);
    assert!(difference <= 3, "{difference}");
}

#[test]
fn quality_trades_size_for_fidelity() {
    let folder = TempDir::new().unwrap();
    let frames: Vec<_> = (0..8).map(|i| smooth(128, 128, i)).collect();
    let mut last = (0, 0.0);
    for quality in [10, 50, 95] {
        let path = folder.path().join(format!("{quality}.mp4"));
        let mut writer = VideoWriter::create(&path, 128, 128, 24.0, Quality(quality)).unwrap();
        frames.iter().for_each(|frame| writer.write(frame).unwrap());
        writer.finish().unwrap();
        let now = (
            std::fs::metadata(&path).unwrap().len(),
            psnr(&frames[7], &read(&path).1[7]),
        );
        assert!(
            now > last && now.1 > last.1,
            "{quality}: {now:?} after {last:?}"
        );
        last = now;
    }
}

#[test]
fn the_index_precedes_the_pictures() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.mp4");
    write(&path, &[smooth(64, 64, 0)], 24.0);
    let bytes = std::fs::read(&path).unwrap();
    let position = |name: &[u8]| bytes.windows(4).position(|w| w == name).unwrap();
    assert!(position(b"moov") < position(b"mdat"));
}
